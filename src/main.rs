//! The binary: hands over to [`relayctl::cli`] and turns its outcome into an exit code.

fn main() -> std::process::ExitCode {
    relayctl::cli::main()
}
