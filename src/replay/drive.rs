//! A sink that makes the events on real address spaces of the library: subscribers in Rust, C or Python see them.

use std::collections::HashMap;

use super::{Change, Paint, Place, Sink};
use crate::api::{self, Event, Invalidation, Mm, MmRef};

/// Who is told which address spaces come and go, in order to subscribe.
pub trait Audience {
    /// What can go wrong.
    type Error: From<api::Error>;

    /// An address space has come into being, without a subscriber: also by a fork of `parent` (DV-13).
    fn created(&mut self, place: Place, parent: Option<u32>, mm: &Mm) -> Result<(), Self::Error>;

    /// A range has started.
    fn started(&mut self, change: &Change, mm: &Mm) -> Result<(), Self::Error> {
        let _ = (change, mm);
        Ok(())
    }

    /// A range has ended; nothing of this replay's is in flight on the address space any more if `idle`.
    fn changed(&mut self, change: &Change, mm: &Mm, idle: bool) -> Result<(), Self::Error> {
        let _ = (change, mm, idle);
        Ok(())
    }

    /// The address space is over for the replay, which was its last user unless the audience kept another one.
    fn ended(&mut self, place: Place) -> Result<(), Self::Error> {
        let _ = place;
        Ok(())
    }

    /// As [`Sink::painted`].
    fn painted(&mut self, place: Place, paint: &[Paint]) -> Result<(), Self::Error> {
        let _ = (place, paint);
        Ok(())
    }
}

/// An [`Mm`] for each address space of the trace. Each is given up when its last process ends; a subscriber may keep it longer.
/// What the kernel unmaps after that (UNMAP of everything) is not replayed: an address space of the library maps nothing (ML-2).
///
/// ```
/// use mmu_notifier::api::{Error, Interval, IntervalNotifier, IntervalSubscription, Mm, Range};
/// use mmu_notifier::replay::{Audience, Drive, Place, Replay};
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// static HITS: AtomicU64 = AtomicU64::new(0);
/// struct Count;
/// impl IntervalNotifier for Count {
///     fn invalidate(&self, interval: &Interval, _: &Range<'_>, cur_seq: u64) -> bool {
///         interval.set_seq(cur_seq);
///         HITS.fetch_add(1, Relaxed);
///         true
///     }
/// }
///
/// #[derive(Default)]
/// struct Watch(Vec<IntervalSubscription<Count>>);
/// impl Audience for Watch {
///     type Error = Error;
///     fn created(&mut self, _: Place, _: Option<u32>, mm: &Mm) -> Result<(), Error> {
///         self.0.push(mm.insert(0x1000, 0x1000, Count)?);
///         Ok(())
///     }
/// }
///
/// let trace = "munmap(0x1000, 4096) = 0\nmunmap(0x9000, 4096) = 0\n";
/// let mut replay = Replay::new(trace.as_bytes(), Drive::new(Watch::default()));
/// replay.run().unwrap();
/// assert_eq!((HITS.load(Relaxed), replay.summary().events()), (1, 2));
/// assert_eq!(replay.sink.busy_periods(), 1);
/// ```
#[derive(Debug)]
pub struct Drive<A> {
    mms: HashMap<u32, Driven>,
    busy_periods: u64,
    /// Who subscribes.
    pub audience: A,
}

#[derive(Debug)]
struct Driven {
    mm: Mm,
    in_flight: u32,
}

impl<A: Audience> Drive<A> {
    /// No address spaces yet.
    pub fn new(audience: A) -> Self {
        Self {
            mms: HashMap::new(),
            busy_periods: 0,
            audience,
        }
    }

    /// The address space of this number, while it lives.
    pub fn mm(&self, space: u32) -> Option<&Mm> {
        self.mms.get(&space).map(|driven| &driven.mm)
    }

    /// Times in which something was in flight that touched an interval notifier, of all address spaces so far.
    // SPEC: ST-5
    pub fn busy_periods(&self) -> u64 {
        let living = self.mms.values().map(|driven| busy_periods(&driven.mm));
        living.fold(self.busy_periods, u64::saturating_add)
    }
}

fn busy_periods(mm: &Mm) -> u64 {
    let (seq, _) = mm.seq_and_active();
    seq.saturating_sub(2).div_ceil(2)
}

impl<A: Audience> Sink for Drive<A> {
    type Range = Option<Invalidation<MmRef>>;
    type Error = A::Error;

    fn created(&mut self, place: Place, parent: Option<u32>) -> Result<(), A::Error> {
        let mm = Mm::new()?;
        self.audience.created(place, parent, &mm)?;
        self.mms.insert(place.space, Driven { mm, in_flight: 0 });
        Ok(())
    }

    fn start(&mut self, change: &Change) -> Result<Self::Range, A::Error> {
        let Some(driven) = self.mms.get_mut(&change.place.space) else {
            return Ok(None);
        };
        let range = change.range;
        let what = api::Change::new(range.start..range.end, Event(range.event as u32));
        let invalidation = Invalidation::start(driven.mm.grab(), what)?;
        driven.in_flight += 1;
        self.audience.started(change, &driven.mm)?;
        Ok(Some(invalidation))
    }

    fn end(&mut self, change: &Change, range: Self::Range) -> Result<(), A::Error> {
        drop(range);
        let Some(driven) = self.mms.get_mut(&change.place.space) else {
            return Ok(());
        };
        driven.in_flight = driven.in_flight.saturating_sub(1);
        self.audience
            .changed(change, &driven.mm, driven.in_flight == 0)
    }

    fn released(&mut self, place: Place) -> Result<(), A::Error> {
        let Some(Driven { mm, .. }) = self.mms.remove(&place.space) else {
            return Ok(());
        };
        self.busy_periods += busy_periods(&mm);
        mm.close().map_err(|refused| refused.error)?;
        self.audience.ended(place)
    }

    fn painted(&mut self, place: Place, paint: &[Paint]) -> Result<(), A::Error> {
        self.audience.painted(place, paint)
    }
}
