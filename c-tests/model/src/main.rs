use std::sync::{Arc, Mutex};
use mmu_notifier_model::{model::Model, runner::*, world::World};
struct P(String);
impl Observer for P { fn after(&mut self, s: Step) -> bool { self.0 += &s.text; true } }
fn main() {
    let mut bad = 0; let mut n = 0;
    for f in std::env::args().skip(1) {
        let world: SharedWorld = Arc::new(Mutex::new(World::default()));
        let lines: Vec<String> = std::fs::read_to_string(&f).unwrap().lines().map(str::to_owned).collect();
        let mut r = Runner::new(world.clone(), Model::new(&world, false), P(String::new()));
        for l in &lines { r.source_line(l).unwrap(); }
        let mut t: String = r.observer.0.lines().filter(|l| !l.starts_with("  + ")).map(|l| format!("{l}\n")).collect();
        { let w = lock(&world); for p in &w.pending { t += &format!("PENDING [{}] {}\n", p+1, w.operations[*p].line.text); }
        t += &format!("END ops={} skipped={} blocked={} callbacks={}\n", w.operations.len(), w.skipped, w.blocked, w.callbacks); }
        let e = std::fs::read_to_string(f.replace(".txt", ".expected")).unwrap();
        n += 1;
        if t != e { bad += 1; println!("DIFFERS {f}"); if bad < 4 { for (i,(a,b)) in t.lines().zip(e.lines()).enumerate() { if a != b { println!("line {i}\n got {a}\n exp {b}"); break; } } } }
    }
    println!("{n} {bad}");
}
