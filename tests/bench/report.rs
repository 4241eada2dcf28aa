//! The tables, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::beside::Beside;
use crate::boot::{Boot, Pair};
use crate::counts::{Counts, Histogram};
use crate::figure::{Bound, thousands};
use crate::micro::{Figure, Measured, ROWS};
use crate::names::nice;
use crate::scale::{self, Scaled};
use crate::stays::{self, Stay};

/// Reasons with a row of their own; the rest are one.
const REASONS: usize = 24;

/// All that was measured.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) cpu: String,
    pub(crate) qemu: String,
    /// By backend, the usual one first.
    pub(crate) micro: Vec<Measured>,
    /// By setting, the usual one first.
    pub(crate) scale: Vec<Scaled>,
    pub(crate) beside: Vec<Beside>,
    /// Guests that ask for much, by their names.
    pub(crate) crowds: Vec<(String, Counts)>,
    pub(crate) boots: Vec<Pair>,
    pub(crate) image: Option<u64>,
}

impl Results {
    /// All figures that have a bound.
    pub(crate) fn bounds(&self) -> Vec<Bound> {
        let mut bounds = Vec::new();
        for measured in &self.micro {
            bounds.extend(measured.figures.iter().filter_map(|figure| figure.bound.clone()));
        }
        bounds.extend(self.scale.iter().flat_map(Scaled::bounds));
        for pair in &self.boots {
            bounds.extend(pair.bounds());
        }
        bounds.extend(self.beside.iter().flat_map(Beside::bounds));
        // The longest, and all that are too long.
        let stays: Vec<Bound> = self.stays().iter().map(Stay::bound).collect();
        bounds.extend(
            stays
                .iter()
                .enumerate()
                .filter(|(n, stay)| *n == 0 || !stay.held())
                .map(|(_, stay)| stay.clone()),
        );
        bounds.extend(self.image.map(|size| Bound::new("image, KiB", size as f64 / 1024.0, 420.0)));
        if let Some((own, each)) = self.boots.iter().find_map(|pair| pair.memory) {
            bounds.push(Bound::new("memory at EL2 for itself, KiB", own as f64 / 1024.0, 4096.0));
            bounds.push(Bound::new("memory at EL2 for a VM, KiB", each as f64 / 1024.0, 256.0));
        }
        bounds
    }

    /// The longest stays of all runs, by reason.
    pub(crate) fn stays(&self) -> Vec<Stay> {
        let micro = self.micro.iter().map(|m| (format!("each kind of exit, {}", m.backend.label), &m.counts));
        let scale = self.scale.iter().flat_map(|s| {
            s.counts.iter().map(|counts| (format!("between VMs, {}", s.setting.label), counts))
        });
        let beside = self.beside.iter().map(|b| (format!("beside {}", b.deed), &b.counts));
        let crowds = self.crowds.iter().map(|(name, counts)| (name.clone(), counts));
        let boots = self.boots.iter().map(|b| (format!("Debian, {}", b.name()), &b.mezzanine.counts));
        stays::longest(micro.chain(scale).chain(beside).chain(crowds).chain(boots))
    }

    /// Everything as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut out =
            format!("Machine: {}, `-cpu {}`, one CPU unless said otherwise, GICv3.\n", self.qemu, self.cpu);
        if let Some(usual) = self.micro.first() {
            out += "\n### Instructions at EL2 for one exit\n\n";
            micro_table(&mut out, &usual.figures);
        }
        if self.micro.len() > 1 {
            out += "\n### The same on each interrupt controller, medians\n\n";
            backends_table(&mut out, &self.micro);
        }
        if !self.scale.is_empty() {
            out += "\n### Between CPUs and VMs, medians\n\n";
            scale_table(&mut out, &self.scale);
        }
        if !self.beside.is_empty() {
            out += "\n### Beside a guest that does harm: the other one's timer, in microseconds of virtual time\n\n";
            beside_table(&mut out, &self.beside);
        }
        if !self.boots.is_empty() {
            out += "\n### A Debian boot to its shell and off\n\n";
            boot_table(&mut out, &self.boots);
        }
        for pair in &self.boots {
            let _ = write!(out, "\n### Exits of the {} boot\n\n", pair.name());
            exits_table(&mut out, &pair.mezzanine);
        }
        out += "\n### The longest stays at EL2 once a guest runs\n\n";
        stays_table(&mut out, &self.stays());
        out += "\n### Bounds\n\n| figure | measured | bound | |\n|---|--:|--:|---|\n";
        for bound in self.bounds() {
            let (value, most) = (plain(bound.value), plain(bound.most));
            let _ = writeln!(out, "| {} | {value} | {most} | {} |", bound.name, bound.verdict());
        }
        out
    }

    /// Everything as JSON.
    pub(crate) fn json(&self) -> Value {
        let micro: Vec<Value> = self.micro.iter().map(measured_json).collect();
        let bounds: Vec<Value> = self
            .bounds()
            .iter()
            .map(|b| json!({"name": b.name, "value": b.value, "bound": b.most, "held": b.held()}))
            .collect();
        json!({
            "cpu": self.cpu,
            "qemu": self.qemu,
            "micro": micro,
            "scale": self.scale.iter().map(scaled_json).collect::<Vec<_>>(),
            "beside": self.beside.iter().map(beside_json).collect::<Vec<_>>(),
            "stays": self.stays().iter().map(stay_json).collect::<Vec<_>>(),
            "boots": self.boots.iter().map(pair_json).collect::<Vec<_>>(),
            "image_bytes": self.image,
            "bounds": bounds,
        })
    }
}

/// The page with other tables between its markers.
pub(crate) fn replaced(page: &str, tables: &str) -> Option<String> {
    const BEGIN: &str = "<!-- tables of `make bench` begin -->\n";
    const END: &str = "<!-- tables of `make bench` end -->";
    let (head, rest) = page.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n{tables}\n{END}{tail}"))
}

/// A figure with as many digits as it needs.
fn plain(value: f64) -> String {
    if value.fract() == 0.0 { thousands(value as u64) } else { format!("{value:.3}") }
}

fn micro_table(out: &mut String, figures: &[Figure]) {
    *out += "| | n | min | median | max | bound | | KVM VHE | KVM nVHE | Xen | Bao | hvisor |\n";
    *out += "|---|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|\n";
    for Figure { row, summary, bound } in figures {
        let most = bound.as_ref().map_or("report".into(), |b| plain(b.most));
        let verdict = bound.as_ref().map_or(String::new(), Bound::verdict);
        let numbers = [summary.n, summary.min, summary.median, summary.max].map(thousands).join(" | ");
        let _ =
            writeln!(out, "| {} | {numbers} | {most} | {verdict} | {} |", row.name, row.peers.join(" | "));
    }
}

/// Rows that depend on the interrupt controller, a column for each.
fn backends_table(out: &mut String, all: &[Measured]) {
    let labels: Vec<&str> = all.iter().map(|measured| measured.backend.label).collect();
    let _ = writeln!(out, "| | {} |\n|---{}|", labels.join(" | "), "|--:".repeat(all.len()));
    for row in ROWS.iter().filter(|row| row.controller) {
        let medians = all.iter().map(|measured| {
            let figure = measured.figures.iter().find(|figure| std::ptr::eq(figure.row, row));
            figure.map_or("-".into(), |figure| thousands(figure.summary.median))
        });
        let _ = writeln!(out, "| {} | {} |", row.name, medians.collect::<Vec<_>>().join(" | "));
    }
}

fn scale_table(out: &mut String, all: &[Scaled]) {
    let labels: Vec<&str> = all.iter().map(|scaled| scaled.setting.label).collect();
    let _ = writeln!(out, "| | bound | {} |\n|---|--:{}|", labels.join(" | "), "|--:".repeat(all.len()));
    for row in &scale::ROWS {
        let bound = row.bound.map_or("report".into(), thousands);
        let medians = all.iter().map(|scaled| scaled.of(row).map_or("-".into(), |s| thousands(s.median)));
        let _ = writeln!(out, "| {} | {bound} | {} |", row.name, medians.collect::<Vec<_>>().join(" | "));
    }
}

fn beside_table(out: &mut String, all: &[Beside]) {
    *out += "| mode | latest | mean | lines |\n|---|--:|--:|--:|\n";
    for Beside { deed, noticed, .. } in all {
        let numbers = [noticed.max, noticed.mean, noticed.lines].map(thousands).join(" | ");
        let _ = writeln!(out, "| {deed} | {numbers} |");
    }
}

fn stays_table(out: &mut String, stays: &[Stay]) {
    *out += "| reason | instructions | where |\n|---|--:|---|\n";
    for Stay { reason, longest, run } in stays.iter().take(REASONS) {
        let _ = writeln!(out, "| {reason} | {} | {run} |", thousands(*longest));
    }
    if let Some(next) = stays.get(REASONS) {
        let rest = stays.len() - REASONS;
        let _ = writeln!(out, "| {rest} other reasons | {} or fewer | |", thousands(next.longest));
    }
}

fn boot_table(out: &mut String, pairs: &[Pair]) {
    let mut line = |name: &str, value: &dyn Fn(&Pair) -> String| {
        let values: Vec<String> = pairs.iter().map(value).collect();
        let _ = writeln!(out, "| {name} | {} |", values.join(" | "));
    };
    line("", &|pair| pair.name().into());
    line("---", &|_| "--:".into());
    line("guest's own instructions natively, to the shell", &|p| thousands(p.native.shell.guest()));
    line("guest's own instructions under Mezzanine, to the shell", &|p| thousands(p.mezzanine.shell.guest()));
    line("the same, to the power off", &|p| thousands(p.mezzanine.whole.guest()));
    line("load: EL2's instructions before the guest's first", &|p| thousands(p.mezzanine.load.el2));
    line("exits to the shell", &|p| thousands(p.mezzanine.shell.exits));
    line("exits to the power off", &|p| thousands(p.mezzanine.whole.exits));
    line("EL2's instructions to the shell", &|p| thousands(p.mezzanine.shell.el2));
    line("EL2's instructions to the power off", &|p| thousands(p.mezzanine.whole.el2));
    line("their share of the guest's own", &|p| format!("{:.3} %", p.mezzanine.share()));
    line("guest time to the shell natively", &|p| format!("{:.3} ms", p.native.time / 1e6));
    line("guest time to the shell under Mezzanine", &|p| format!("{:.3} ms", p.mezzanine.time / 1e6));
    line("difference", &|p| format!("{:+.3} %", p.later()));
}

/// Reasons in words, with all their exits; the parts of a WFI are left out, being in the whole.
fn by_reason(counts: &Counts) -> Vec<(String, Histogram)> {
    let mut reasons: BTreeMap<String, Histogram> = BTreeMap::new();
    for exits in counts.exits.iter().filter(|e| e.is_whole()) {
        reasons.entry(nice(&exits.reason)).or_default().merge(&exits.cost);
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, cost)| std::cmp::Reverse(cost.sum()));
    reasons
}

fn exits_table(out: &mut String, boot: &Boot) {
    *out += "| reason | n | min | median | max | all |\n|---|--:|--:|--:|--:|--:|\n";
    let mut reasons = by_reason(&boot.counts);
    if reasons.len() > REASONS + 1 {
        let mut rest = Histogram::default();
        let others = reasons.split_off(REASONS);
        others.iter().for_each(|(_, cost)| rest.merge(cost));
        reasons.push((format!("{} other reasons", others.len()), rest));
    }
    for (reason, cost) in reasons {
        if let Some(s) = cost.summary() {
            let numbers = [s.n, s.min, s.median, s.max, cost.sum()].map(thousands).join(" | ");
            let _ = writeln!(out, "| {reason} | {numbers} |");
        }
    }
}

fn figure_json(figure: &Figure) -> Value {
    let s = figure.summary;
    let bound = figure.bound.as_ref().map(|b| b.most);
    json!({"name": figure.row.name, "n": s.n, "min": s.min, "median": s.median, "max": s.max, "bound": bound})
}

fn measured_json(measured: &Measured) -> Value {
    json!({
        "backend": measured.backend.label,
        "rows": measured.figures.iter().map(figure_json).collect::<Vec<_>>(),
        "exits": exits_json(&measured.counts),
    })
}

fn scaled_json(scaled: &Scaled) -> Value {
    let rows = scaled.figures.iter().map(|figure| {
        let s = figure.summary;
        json!({"name": figure.row.name, "n": s.n, "min": s.min, "median": s.median, "max": s.max, "bound": figure.row.bound})
    });
    json!({
        "setting": scaled.setting.label,
        "rows": rows.collect::<Vec<_>>(),
        "exits": scaled.counts.iter().map(exits_json).collect::<Vec<_>>(),
    })
}

fn beside_json(beside: &Beside) -> Value {
    let n = beside.noticed;
    json!({"deed": beside.deed, "latest_us": n.max, "mean_us": n.mean, "lines": n.lines})
}

fn stay_json(stay: &Stay) -> Value {
    json!({"reason": stay.reason, "instructions": stay.longest, "run": stay.run})
}

fn exits_json(counts: &Counts) -> Value {
    counts
        .exits
        .iter()
        .filter_map(|e| {
            let s = e.cost.summary()?;
            Some(json!({
                "row": e.row, "reason": e.reason, "name": nice(&e.reason),
                "n": s.n, "min": s.min, "median": s.median, "max": s.max, "sum": e.cost.sum(),
            }))
        })
        .collect()
}

fn boot_json(boot: &Boot) -> Value {
    let part =
        |c: &crate::counts::Counters| json!({"el0": c.el0, "el1": c.el1, "el2": c.el2, "exits": c.exits});
    json!({
        "load": part(&boot.load),
        "to_shell": part(&boot.shell),
        "to_power_off": part(&boot.whole),
        "guest_time_to_shell_ns": boot.time,
        "exits": exits_json(&boot.counts),
    })
}

fn pair_json(pair: &Pair) -> Value {
    json!({
        "name": pair.name(),
        "native": boot_json(&pair.native),
        "mezzanine": boot_json(&pair.mezzanine),
        "el2_share_percent": pair.mezzanine.share(),
        "time_percent_more": pair.later(),
        "memory_bytes": pair.memory.map(|(own, each)| json!({"own": own, "each_vm": each})),
    })
}
