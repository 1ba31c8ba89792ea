//! A disk that hangs when it is told to, for the processes that are started over it.

use std::path::PathBuf;

use tempfile::TempDir;

use super::node::Plan;
use super::program::{output_of, tool};

/// Makes fsync(2) wait for as long as the file of the variable `HANG` exists.
const LIBRARY: &str = "#include <stdlib.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
    int fsync(int fd) {\n\
      const char *hang = getenv(\"HANG\");\n\
      while (hang && access(hang, F_OK) == 0) usleep(10000);\n\
      return (int) syscall(SYS_fsync, fd);\n\
    }\n";

/// See the module.
pub struct HangingDisk {
    folder: TempDir,
}

impl HangingDisk {
    /// One that works.
    pub async fn new() -> Self {
        let disk = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let source = disk.folder.path().join("hang.c");
        std::fs::write(&source, LIBRARY).unwrap();
        let mut cc = tool("cc", "gcc");
        cc.args(["-shared", "-fPIC", "-o"])
            .arg(disk.library())
            .arg(&source);
        output_of(cc).await;
        disk
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("hang.so")
    }

    fn order(&self) -> PathBuf {
        self.folder.path().join("hangs")
    }

    /// A node whose disk this is.
    pub fn under(&self, plan: Plan) -> Plan {
        plan.variable("LD_PRELOAD", self.library().to_str().unwrap())
            .variable("HANG", self.order().to_str().unwrap())
    }

    /// From now on nothing is written down.
    pub fn hang(&self) {
        std::fs::write(self.order(), b"").unwrap();
    }

    /// From now on it works again.
    pub fn work(&self) {
        std::fs::remove_file(self.order()).unwrap();
    }
}
