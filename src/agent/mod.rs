//! A relay's side of the cluster: it joins, beats, follows the feed and keeps a pull for each mount.
