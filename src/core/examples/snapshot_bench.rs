//! Times both looks at a tree: `snapshot_bench ROOT [THREADS] [full]`.
#![allow(clippy::print_stdout)] // a tool for the terminal

use std::time::Instant;

use affiant_core::snapshot::{Mode, Options, Progress, Timestamp, first};

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: ?");
    line.split_once(':').map_or(line, |(_, value)| value.trim()).to_owned()
}

/// Processor time of this process so far, in units of 10 ms (fields 14 and 15 of `/proc/self/stat`).
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let root = std::path::absolute(args.next().ok_or("usage: snapshot_bench ROOT [THREADS] [full]")?)?;
    let threads = match args.next() {
        Some(threads) => threads.parse()?,
        None => std::thread::available_parallelism()?.get(),
    };
    let mode = if args.next().as_deref() == Some("full") { Mode::Full } else { Mode::Keys };
    let clock = || {
        let now = jiff::Timestamp::now();
        Timestamp { seconds: now.as_second(), nanos: u32::try_from(now.subsec_nanosecond()).unwrap_or(0) }
    };
    let progress = Progress::default();
    let (start, before) = (Instant::now(), cpu());
    let snapshot = first(Options { threads, mode, ..Options::new(root) }, &clock, &progress)?;
    let first = start.elapsed();
    println!(
        "first look   {:>8.3} s, cpu {}0 ms  {} files, {} MB, {} omissions, peak {}",
        first.as_secs_f64(),
        cpu() - before,
        progress.files(),
        progress.bytes() / 1_000_000,
        snapshot.omitted(),
        peak()
    );
    for _ in 0..3 {
        let (start, before) = (Instant::now(), cpu());
        let changes = snapshot.second(&clock, &progress, None);
        let second = start.elapsed();
        println!(
            "second look  {:>8.3} s, cpu {}0 ms  {:.1} % of the first, {} read again, {} products, {} deleted, peak {}",
            second.as_secs_f64(),
            cpu() - before,
            100.0 * second.as_secs_f64() / first.as_secs_f64(),
            changes.reread,
            changes.products.len(),
            changes.deleted.len(),
            peak()
        );
    }
    let start = Instant::now();
    let bytes = serde_json::to_vec(&snapshot.material_map())?.len();
    println!("material map {:>8.3} s  {} MB, peak {}", start.elapsed().as_secs_f64(), bytes / 1_000_000, peak());
    Ok(())
}
