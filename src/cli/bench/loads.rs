//! All load processes of a run, and what they answer together.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::args::{Plan, SPARE};
use super::clock::pause;
use super::load::orders::{Order, Setup, Tally};
use super::process::Process;
use super::server::{PATIENCE, Server};

/// Listeners of one load process, where the limit of open files allows them.
const MOST: u64 = 15_000;

/// See the module.
pub(super) struct Loads {
    processes: Vec<Process>,
}

impl Loads {
    /// Starts as many processes as `plan` needs for listeners of `server`.
    ///
    /// # Errors
    /// Where one does not start.
    pub fn start(plan: &Plan, server: &Server, descriptors: u64) -> anyhow::Result<Self> {
        let each = MOST.min(descriptors.saturating_sub(SPARE)).max(1);
        let count = u32::try_from(plan.all().div_ceil(each))?.max(1);
        let away = server
            .listen
            .iter()
            .any(|server| !server.ip().is_loopback());
        let mut processes = Vec::new();
        for number in 0..count {
            let setup = Setup {
                servers: server.listen.clone(),
                path: server.path.clone(),
                kbit: (!server.places.is_empty()).then_some(plan.kbit),
                metadata: plan.metadata,
                agents: plan.agents,
                check_one_in: plan.check_one_in,
                first_address: number,
                stride: count,
                trust: server
                    .certificate
                    .as_ref()
                    .map(|file| file.display().to_string()),
                any_address: away,
            };
            let mut process =
                Process::this_program("a load process", &["bench-part", "load"], &[])?;
            process.tell(&serde_json::to_string(&setup)?)?;
            processes.push(process);
        }
        Ok(Self { processes })
    }

    /// The same order to all.
    ///
    /// # Errors
    /// Where one has ended.
    pub fn tell(&mut self, order: &Order) -> anyhow::Result<()> {
        let line = serde_json::to_string(order)?;
        self.processes
            .iter_mut()
            .try_for_each(|process| process.tell(&line))
    }

    /// Lets `count` come, `per_second` together.
    ///
    /// # Errors
    /// Where a process has ended.
    pub fn join(&mut self, count: u32, per_second: f64, deaf: bool) -> anyhow::Result<()> {
        let shares = self.shares(count);
        let orders = shares.iter().map(|share| Order::Join {
            count: *share,
            per_second: per_second * f64::from(*share) / f64::from(count.max(1)),
            deaf,
        });
        let orders: Vec<Order> = orders.collect();
        for (process, order) in self.processes.iter_mut().zip(&orders) {
            process.tell(&serde_json::to_string(order)?)?;
        }
        Ok(())
    }

    /// `count` of them stop reading.
    ///
    /// # Errors
    /// Where a process has ended.
    pub fn stop_reading(&mut self, count: u32) -> anyhow::Result<()> {
        let shares = self.shares(count);
        for (process, share) in self.processes.iter_mut().zip(shares) {
            process.tell(&serde_json::to_string(&Order::StopReading(share))?)?;
        }
        Ok(())
    }

    /// `rate` leave and come in a second.
    ///
    /// # Errors
    /// Where a process has ended.
    pub fn churn(&mut self, rate: f64) -> anyhow::Result<()> {
        #[allow(clippy::cast_precision_loss)]
        let each = rate / self.processes.len().max(1) as f64;
        self.tell(&Order::Churn(each))
    }

    /// What they counted together.
    ///
    /// # Errors
    /// Where one has ended.
    pub fn report(&mut self) -> anyhow::Result<Tally> {
        self.tell(&Order::Report)?;
        let mut sum = Tally::default();
        for process in &mut self.processes {
            sum.merge(&serde_json::from_str(&process.line()?)?);
        }
        Ok(sum)
    }

    /// Waits until `count` hear audio or failed, `time` and as long again as a slow server may take. What has not come
    /// by then is in [`Tally::waiting`].
    ///
    /// # Errors
    /// Where a process has ended, or nobody hears anything.
    pub fn wait_for(&mut self, count: u32, time: Duration) -> anyhow::Result<Tally> {
        let end = Instant::now() + time + PATIENCE * 2;
        let tally = loop {
            let tally = self.report()?;
            let in_or_out = tally.playing + tally.failed + tally.lost;
            let all = in_or_out >= u64::from(count) && tally.waiting == 0;
            if all || Instant::now() > end {
                break tally;
            }
            pause(Duration::from_millis(100))?;
        };
        if tally.playing == 0 {
            let why = tally
                .first_failure
                .unwrap_or_else(|| "they were closed".into());
            bail!("no listener hears audio: {why}");
        }
        Ok(tally)
    }

    /// Listeners of each process.
    fn shares(&self, count: u32) -> Vec<u32> {
        let processes = u32::try_from(self.processes.len()).unwrap_or(1).max(1);
        let share = |number| count / processes + u32::from(number < count % processes);
        (0..processes).map(share).collect()
    }
}
