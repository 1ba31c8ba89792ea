//! Every setting: defaults < YAML < environment < flags.
