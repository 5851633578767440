//! `cargo xtask tcb`.

use serde_json::json;

use super::CommandError;
use crate::cli::{Outcome, TcbArgs};
use crate::image_build;
use crate::models::ModelChoice;
use crate::tcb::{self, BUDGET_FILE, Tcb};
use crate::workspace::Workspace;

/// Counts and compares.
pub fn run(workspace: &Workspace, arguments: &TcbArgs) -> Result<Outcome, CommandError> {
    // The guest's code does not depend on the model, and without one there is nothing to fetch.
    let folder = workspace.cloister().join("tcb");
    let image = image_build::build(workspace, &ModelChoice::None, &folder)?;
    let now = tcb::count(workspace, image.sizes())?;
    if arguments.write_budget {
        tcb::write_budget(workspace, &tcb::budget_for(&now))?;
    }
    let budget = tcb::read_budget(workspace)?;
    let growth = match &budget {
        Some(budget) => tcb::growth(&now, budget),
        None => vec![format!(
            "{BUDGET_FILE} is missing; `cargo xtask tcb --write-budget` makes it"
        )],
    };
    let text = describe(&now, budget.as_ref(), &growth);
    let json = json!({ "now": now, "budget": budget, "growth": growth });
    Ok(Outcome {
        text,
        json,
        success: growth.is_empty(),
    })
}

/// A row of the table: its name, and where its figure is.
type Row = (&'static str, fn(&Tcb) -> u64);

fn describe(now: &Tcb, budget: Option<&Tcb>, growth: &[String]) -> String {
    let allowed =
        |read: fn(&Tcb) -> u64| budget.map_or("none".to_owned(), |budget| read(budget).to_string());
    let rows: [Row; 7] = [
        ("crates of other people", |tcb| tcb.crates.len() as u64),
        ("lines of their code", |tcb| tcb.crate_lines),
        ("lines of C and assembly", |tcb| tcb.foreign_lines),
        ("own lines", |tcb| tcb.own_lines),
        ("boot.elf bytes", |tcb| tcb.boot_elf_bytes),
        ("kernel.elf bytes", |tcb| tcb.kernel_elf_bytes),
        ("ROM bytes", |tcb| tcb.rom_bytes),
    ];
    let mut text = format!("{:24} {:>10} {:>10}\n", "in the guest", "now", "budget");
    for (name, read) in rows {
        text += &format!("{name:24} {:>10} {:>10}\n", read(now), allowed(read));
    }
    let names: Vec<&str> = now.crates.iter().map(String::as_str).collect();
    text += &format!("crates: {}\n", names.join(" "));
    match growth {
        [] => text += "Within the budget.\n",
        _ => {
            text += "GROWN:\n";
            growth
                .iter()
                .for_each(|line| text += &format!("  {line}\n"));
            text += &format!(
                "If that is meant, change {BUDGET_FILE} in the same commit (--write-budget).\n"
            );
        }
    }
    text
}
