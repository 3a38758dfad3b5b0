// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets of callbacks.

use super::Generator;
use super::values::*;

impl Generator<'_> {
    fn values(&mut self, pool: &[i64]) -> String {
        let count = 1 + self.choices.below(4);
        let values: Vec<String> = (0..count)
            .map(|_| pool[self.choices.below(pool.len())].to_string())
            .collect();
        values.join(",")
    }

    fn act(&mut self, may_put: bool) -> String {
        if may_put && self.choices.percent(50) {
            return "put".to_owned();
        }
        let slot = 20 + self.choices.below(40);
        let (address, length) = (self.address(), self.length());
        format!("iins:i{slot}:{address}:{length}:p{}", self.choices.below(3))
    }

    /// The callbacks of a set: name and word.
    fn members(&mut self) -> Vec<(&'static str, String)> {
        let mut chosen = Vec::new();
        if self.choices.percent(70) {
            chosen.push(("rel", "rel".to_owned()));
        }
        for (name, pool) in [
            ("cfy", [0, 0, 1, 2]),
            ("cy", [0, 0, 1, 4]),
            ("ty", [0, 0, 1, 3]),
        ] {
            if self.choices.percent(60) {
                chosen.push((name, format!("{name}={}", self.values(&pool))));
            }
        }
        if self.choices.percent(50) {
            chosen.push(("cpte", "cpte".to_owned()));
        }
        let tlb = self.choices.percent(20);
        if tlb {
            chosen.push(("tlb", "tlb".to_owned()));
        }
        if !tlb || self.choices.percent(10) {
            self.start_and_end(&mut chosen);
        }
        if self.choices.percent(65) {
            let fails = self.choices.percent(15);
            let values = if fails {
                format!("={}", self.values(&[-12, -22, 0]))
            } else {
                String::new()
            };
            chosen.push(("alloc", format!("alloc{values}")));
            chosen.push(("free", "free".to_owned()));
        } else if self.choices.percent(50) {
            chosen.push(("free", "free".to_owned()));
        }
        chosen
    }

    fn start_and_end(&mut self, chosen: &mut Vec<(&'static str, String)>) {
        if self.choices.percent(75) {
            let refuses = self.choices.percent(self.traits.refuse);
            let values = if refuses {
                format!("={}", self.values(&[0, 0, -11, -11, -22, 5]))
            } else {
                String::new()
            };
            chosen.push(("start", format!("start{values}")));
        }
        if self.choices.percent(70) {
            chosen.push(("end", "end".to_owned()));
        }
    }

    pub(super) fn define(&mut self) -> Option<String> {
        if self.choices.percent(40) {
            return self.define_intervals();
        }
        let slot = (0..8).find(|slot| self.world().sets[*slot].is_none())?;
        let chosen = self.members();
        let has = |name: &str| chosen.iter().any(|(own, _)| *own == name);
        let mut words: Vec<String> = chosen.iter().map(|(_, word)| word.clone()).collect();
        if has("start") && self.choices.percent(self.traits.refuse * 7 / 10) {
            words.push(format!("bstart={}", self.values(&[0, 0, -11, -22, 7])));
        }
        for (name, _) in &chosen {
            if *name != "free" && self.choices.percent(self.traits.gates) {
                words.push(format!("gate={name}:{}", self.choices.below(GATES)));
            }
        }
        let acting: Vec<&str> = chosen
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| !matches!(*name, "alloc" | "free"))
            .collect();
        if !acting.is_empty() && self.choices.percent(self.traits.acts) {
            let name = self.choices.pick(&acting)?;
            words.push(format!("act={name}:{}", self.act(has("free"))));
        }
        words.truncate(11);
        Some(
            format!("ops o{slot} {}", words.join(" "))
                .trim_end()
                .to_owned(),
        )
    }

    fn define_intervals(&mut self) -> Option<String> {
        let slot = (0..5).find(|slot| self.world().isets[*slot].is_none())?;
        let mut line = format!("iops p{slot}");
        if self.choices.percent(self.traits.refuse.max(15)) {
            line += &format!(" nb={}", self.values(&[1, 1, 0]));
        }
        if self.choices.percent(self.traits.refuse) {
            line += &format!(" b={}", self.values(&[1, 1, 0]));
        }
        if self.choices.percent(15) {
            line += " set=0";
        }
        if self.choices.percent(20) {
            line += " setf=1";
        }
        if self.choices.percent(self.traits.gates) {
            line += &format!(" gate=inv:{}", self.choices.below(GATES));
        }
        if self.choices.percent(self.traits.acts) {
            line += &format!(" act=inv:{}", self.act(false));
        }
        Some(line)
    }
}
