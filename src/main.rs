//! The binary: everything is in the library's `cli`.

/// For the static binary: musl's own allocator gives each large buffer back to the kernel, which almost
/// doubles the time of a backup (docs/design/dist.md).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    tillsafe::cli::main()
}
