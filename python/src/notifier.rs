//! Notifiers of a whole address space.

use std::cell::RefCell;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mmu_notifier::api::{self, AddressSpace, Factory, Ops, Refusal, Refused, Shared, Subscription};
use mmu_notifier::explore;
use mmu_notifier::report::{DV_9_REGISTER, DV_9_UNREGISTER, GP_5};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType, PyWeakrefReference};

use crate::calls::{self, callback, event};
use crate::errors;
use crate::mm::Mm;
use crate::range::Range;

const EAGAIN: i32 = 11;

/// A subscriber to a whole address space, to be subclassed. Its methods are the ops of the contract; those that the class overrides
/// are installed, the others are absent.
/// (What is assigned to an object is not seen.)
///
/// `Mm.register` registers it, `get` makes and shares one. It is alive as long as somebody refers to it, or the Mm through which it
/// was registered is open. When it is collected its registration ends as by `put`. In a `with` block it is unregistered at the end.
#[pyclass(subclass, frozen, weakref, module = "mmu_notifier")]
pub(crate) struct Notifier {
    state: Mutex<State>,
}

enum State {
    /// Not registered.
    Idle,
    /// A thread is registering or unregistering it.
    Busy,
    Registered(Subscription<Callbacks>, Py<PyWeakrefReference>),
    /// One for each get, with the Mm that it came through.
    Shared(Vec<(Shared<Callbacks>, Py<PyWeakrefReference>)>),
}

/// The ops by their names.
const OPS: [(&str, Ops); 8] = [
    ("release", Ops::RELEASE),
    ("clear_flush_young", Ops::CLEAR_FLUSH_YOUNG),
    ("clear_young", Ops::CLEAR_YOUNG),
    ("test_young", Ops::TEST_YOUNG),
    ("change_pte", Ops::CHANGE_PTE),
    ("invalidate_range_start", Ops::INVALIDATE_RANGE_START),
    ("invalidate_range_end", Ops::INVALIDATE_RANGE_END),
    (
        "arch_invalidate_secondary_tlbs",
        Ops::ARCH_INVALIDATE_SECONDARY_TLBS,
    ),
];

/// Does the class have a method of its own?
fn overrides(class: &Bound<'_, PyType>, name: &str) -> PyResult<bool> {
    let base = class.py().get_type::<Notifier>();
    Ok(!class.getattr(name)?.is(&base.getattr(name)?))
}

fn ops_of(class: &Bound<'_, PyType>) -> PyResult<Ops> {
    OPS.into_iter().try_fold(Ops::NONE, |ops, (name, op)| {
        Ok(if overrides(class, name)? {
            ops | op
        } else {
            ops
        })
    })
}

/// What the library calls: a notifier, by a weak reference.
pub(crate) struct Callbacks {
    notifier: Py<PyWeakrefReference>,
    mm: Py<PyWeakrefReference>,
    /// From the last put on, if the notifier wants to be told of the end.
    freed: Mutex<Option<Py<PyAny>>>,
}

impl Callbacks {
    fn new(notifier: &Bound<'_, PyAny>, mm: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            notifier: PyWeakrefReference::new(notifier)?.unbind(),
            mm: PyWeakrefReference::new(mm)?.unbind(),
            freed: Mutex::new(None),
        })
    }

    /// Calls the method `name` with what `arguments` makes; None if the notifier is gone.
    fn call<T>(
        &self,
        name: &str,
        otherwise: T,
        arguments: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyTuple>>,
        answer: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<Option<T>>,
    ) -> T {
        call_weakly(&self.notifier, name, otherwise, arguments, answer)
    }

    fn young(&self, name: &str, space: &AddressSpace, bytes: &[u64]) -> i32 {
        self.call(
            name,
            0,
            |py| {
                let mut all = vec![mm_object(py, &self.mm, space)?.into_any()];
                for number in bytes {
                    all.push(number.into_pyobject(py)?.into_any().unbind());
                }
                PyTuple::new(py, all)
            },
            |answer| {
                if answer.is_none() {
                    Ok(None)
                } else {
                    answer.extract().map(Some)
                }
            },
        )
    }
}

/// Calls the method `name` of what `object` refers to. `otherwise`: it is gone, or raised, or `answer` says None.
pub(crate) fn call_weakly<T>(
    object: &Py<PyWeakrefReference>,
    name: &str,
    otherwise: T,
    arguments: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyTuple>>,
    answer: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<Option<T>>,
) -> T {
    let asked = callback(None, name, |py| {
        let Some(this) = object.bind(py).upgrade() else {
            return Ok(None);
        };
        let method = this.getattr(name)?;
        answer(&method.call1(arguments(py)?)?)
    });
    asked.unwrap_or(otherwise)
}

/// The Mm that something was registered through; one that is no user if that is gone.
pub(crate) fn mm_object(
    py: Python<'_>,
    mm: &Py<PyWeakrefReference>,
    space: &AddressSpace,
) -> PyResult<Py<Mm>> {
    match mm.bind(py).upgrade_as_exact::<Mm>()? {
        Some(mm) => Ok(mm.unbind()),
        None => Py::new(py, Mm::reference(space)),
    }
}

/// A range as an argument.
pub(crate) fn range_object(
    py: Python<'_>,
    mm: &Py<PyWeakrefReference>,
    range: &api::Range<'_>,
) -> PyResult<Py<Range>> {
    let mm = mm_object(py, mm, range.mm())?;
    Py::new(py, Range::new(range, mm))
}

/// What `invalidate_range_start` answered: None, 0 and True agree, False is -EAGAIN.
fn start_answer(answer: &Bound<'_, PyAny>) -> PyResult<Option<i32>> {
    if answer.is_none() {
        return Ok(None);
    }
    match answer.extract::<bool>() {
        Ok(agreed) => Ok(Some(if agreed { 0 } else { -EAGAIN })),
        Err(_) => Ok(Some(answer.extract()?)),
    }
}

impl api::Notifier for Callbacks {
    // Each registration has those of its class.
    const OPS: Ops = Ops::NONE;

    fn release(&self, mm: &AddressSpace) {
        self.young("release", mm, &[]);
    }

    fn clear_flush_young(&self, mm: &AddressSpace, start: u64, end: u64) -> i32 {
        self.young("clear_flush_young", mm, &[start, end])
    }

    fn clear_young(&self, mm: &AddressSpace, start: u64, end: u64) -> i32 {
        self.young("clear_young", mm, &[start, end])
    }

    fn test_young(&self, mm: &AddressSpace, address: u64) -> i32 {
        self.young("test_young", mm, &[address])
    }

    fn change_pte(&self, mm: &AddressSpace, address: u64, pte: u64) {
        self.young("change_pte", mm, &[address, pte]);
    }

    fn invalidate_range_start(&self, range: &api::Range<'_>) -> Result<(), Refusal> {
        let code = self.call(
            "invalidate_range_start",
            0,
            |py| (range_object(py, &self.mm, range)?,).into_pyobject(py),
            start_answer,
        );
        Refusal::new(code).map_or(Ok(()), Err)
    }

    fn invalidate_range_end(&self, range: &api::Range<'_>) {
        self.call(
            "invalidate_range_end",
            (),
            |py| (range_object(py, &self.mm, range)?,).into_pyobject(py),
            |_| Ok(None),
        );
    }

    fn arch_invalidate_secondary_tlbs(&self, mm: &AddressSpace, start: u64, end: u64) {
        self.young("arch_invalidate_secondary_tlbs", mm, &[start, end]);
    }

    fn free_notifier(self) {
        let freed = self.freed.into_inner();
        let Some(notifier) = freed.unwrap_or_else(PoisonError::into_inner) else {
            return;
        };
        callback((), "free_notifier", |py| {
            notifier.bind(py).call_method0("free_notifier").map(drop)
        });
    }
}

/// A class's factory, an attribute of the class: the contract knows a table of ops by its address.
#[pyclass(frozen)]
struct ClassFactory(Factory<Callbacks>);

const FACTORY: &str = "__mmu_notifier_factory__";

thread_local! {
    /// The notifier that `get` has just made on this thread: until it is registered nobody else refers to it.
    static MADE: RefCell<Option<Py<PyAny>>> = const { RefCell::new(None) };
    /// The Mm whose `get` this thread is in.
    static GETTING: RefCell<Option<Py<Mm>>> = const { RefCell::new(None) };
}

/// Makes a notifier for a factory; an errno if that raises.
fn make(class: &Py<PyWeakrefReference>) -> Result<Callbacks, i32> {
    const ECANCELED: i32 = 125;
    callback(Err(ECANCELED), "alloc_notifier", |py| {
        let mm = GETTING.with_borrow(|mm| mm.as_ref().map(|mm| mm.clone_ref(py)));
        let (Some(mm), Some(class)) = (mm, class.bind(py).upgrade()) else {
            return Ok(Err(ECANCELED));
        };
        let made = class.call_method1(intern!(py, "alloc_notifier"), (&mm,))?;
        if !made.is_instance_of::<Notifier>() {
            let what = made.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "alloc_notifier returned no Notifier but {what}"
            )));
        }
        let callbacks = Callbacks::new(&made, mm.bind(py).as_any())?;
        let before = MADE.replace(Some(made.unbind()));
        drop(before);
        Ok(Ok(callbacks))
    })
}

/// The factory of a class, made at its first use.
fn factory_of<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, ClassFactory>> {
    let py = class.py();
    let own = class.getattr("__dict__")?;
    if own.contains(FACTORY)? {
        return Ok(own.get_item(FACTORY)?.cast_into::<ClassFactory>()?);
    }
    let weak = PyWeakrefReference::new(class)?.unbind();
    let factory = Factory::with_ops(ops_of(class)?, move |_| make(&weak));
    let factory = Bound::new(py, ClassFactory(factory))?;
    class.setattr(FACTORY, &factory)?;
    Ok(factory)
}

/// A share, and the notifier that it is one of.
fn share_of<'py>(
    py: Python<'py>,
    factory: &Factory<Callbacks>,
    user: &api::Mm,
) -> PyResult<(Shared<Callbacks>, Bound<'py, PyAny>)> {
    loop {
        let got = event(py, || factory.get(user));
        let made = MADE.take();
        let share = got?;
        let found = share.notifier().notifier.bind(py).upgrade();
        if let Some(this) = made.map(|made| made.into_bound(py)).or(found) {
            return Ok((share, this));
        }
        // Whoever had it gave it back when the share was on its way here, and nobody referred to it: that was the end of it.
        py.detach(|| {
            share.put();
            explore::yield_now();
        });
    }
}

impl Notifier {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn register(slf: &Bound<'_, Self>, mm: &Bound<'_, Mm>) -> PyResult<()> {
        let py = slf.py();
        let ops = ops_of(&slf.get_type())?;
        let user = mm.get().user()?;
        let callbacks = Callbacks::new(slf.as_any(), mm.as_any())?;
        let weak = callbacks.mm.clone_ref(py);
        {
            let mut state = slf.get().state();
            if !matches!(*state, State::Idle) {
                let misuse = DV_9_REGISTER.broken_by(c"mmu_notifier_register");
                return Err(errors::misuse(py, misuse));
            }
            *state = State::Busy;
        }
        let registered = event(py, move || user.register_with(ops, callbacks));
        match registered {
            Ok(subscription) => {
                *slf.get().state() = State::Registered(subscription, weak);
                mm.get().keep(slf.as_any().clone());
                Ok(())
            }
            Err(error) => {
                *slf.get().state() = State::Idle;
                Err(error)
            }
        }
    }

    /// The Mm that it was registered through keeps it no longer.
    fn forgotten_by(slf: &Bound<'_, Self>, mm: &Py<PyWeakrefReference>) {
        if let Ok(Some(mm)) = mm.bind(slf.py()).upgrade_as_exact::<Mm>() {
            mm.get().forget(slf.as_any());
        }
    }

    /// Has `free_notifier` called in the end, if the class has one.
    fn tell_when_freed(slf: &Bound<'_, Self>, callbacks: &Callbacks) -> PyResult<()> {
        if overrides(&slf.get_type(), "free_notifier")? {
            let this = slf.as_any().clone().unbind();
            *callbacks
                .freed
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(this);
        }
        Ok(())
    }
}

#[pymethods]
impl Notifier {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, pyo3::types::PyDict>>) -> Self {
        Self {
            state: Mutex::new(State::Idle),
        }
    }

    /// The address space ends, or the notifier is being unregistered. May sleep; may be called twice, even at the same time (RL-6).
    fn release(&self, mm: &Bound<'_, Mm>) {
        let _ = mm;
    }

    /// Were the bytes `[start, end)` accessed since the last time? Clears that, and flushes it. Must not sleep. Returns an int, not 0
    /// for yes.
    fn clear_flush_young(&self, mm: &Bound<'_, Mm>, start: u64, end: u64) -> i32 {
        let _ = (mm, start, end);
        0
    }

    /// As `clear_flush_young` of the bytes `[start, end)`, without the flush.
    fn clear_young(&self, mm: &Bound<'_, Mm>, start: u64, end: u64) -> i32 {
        let _ = (mm, start, end);
        0
    }

    /// Was the page at `address` accessed? Must not sleep. Returns an int, not 0 for yes.
    fn test_young(&self, mm: &Bound<'_, Mm>, address: u64) -> i32 {
        let _ = (mm, address);
        0
    }

    /// The entry of the page at `address` becomes `pte`, a number of 64 bits. Must not sleep.
    fn change_pte(&self, mm: &Bound<'_, Mm>, address: u64, pte: u64) {
        let _ = (mm, address, pte);
    }

    /// `range` is about to change. May sleep if it is blockable; otherwise it may refuse: return False, or a negative errno. (None, 0
    /// and True agree. Other refusals are a `MisuseWarning`: HS-5.)
    fn invalidate_range_start(&self, range: &Bound<'_, Range>) -> Option<i32> {
        let _ = range;
        None
    }

    /// `range` has changed. May sleep if it is blockable.
    fn invalidate_range_end(&self, range: &Bound<'_, Range>) {
        let _ = range;
    }

    /// TLBs that share the CPU's page table must drop the bytes `[start, end)`. Must not sleep. Excludes the range ops (RG-2).
    fn arch_invalidate_secondary_tlbs(&self, mm: &Bound<'_, Mm>, start: u64, end: u64) {
        let _ = (mm, start, end);
    }

    /// Makes the notifier that `get` registers on `mm`; the class, called without arguments, unless it is overridden. Runs under
    /// mmap_lock.
    #[classmethod]
    fn alloc_notifier<'py>(
        cls: &Bound<'py, PyType>,
        mm: &Bound<'py, Mm>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = mm;
        cls.call0()
    }

    /// The last put was made, and all callbacks of that time are over. Called on the library's worker. Must not sleep.
    fn free_notifier(&self) {}

    /// The notifier of this class on `mm`, counted once more; if there is none, `alloc_notifier` makes it and it is registered. Give
    /// it back by `put`.
    ///
    /// Takes mmap_lock for writing unless this thread holds it so, and waits for it. Raises what `alloc_notifier` raised, and what
    /// `Mm.register` raises.
    #[classmethod]
    fn get<'py>(cls: &Bound<'py, PyType>, mm: &Bound<'py, Mm>) -> PyResult<Bound<'py, PyAny>> {
        let py = cls.py();
        let (factory, user) = (factory_of(cls)?, mm.get().user()?);
        let outer = GETTING.replace(Some(mm.clone().unbind()));
        let got = share_of(py, &factory.get().0, &user);
        drop(GETTING.replace(outer));
        let (share, this) = got?;
        let weak = PyWeakrefReference::new(mm)?.unbind();
        let notifier = this.cast::<Self>()?;
        {
            let mut state = notifier.get().state();
            match &mut *state {
                State::Shared(shares) => shares.push((share, weak)),
                other => *other = State::Shared(vec![(share, weak)]),
            }
        }
        mm.get().keep(this.clone());
        Ok(this)
    }

    /// Ends the registration: calls `release`, unless the end of the address space did, and waits until every callback of every
    /// `Notifier` that is running now is over. Not under a lock that a callback takes.
    ///
    /// Raises what a callback raised. `MisuseError`: DV-7, from a callback of a Notifier, for which it would wait; DV-9, it is not
    /// registered (or was made by `get`, which `put` ends).
    fn unregister(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let taken = {
            let mut state = slf.get().state();
            match mem::replace(&mut *state, State::Busy) {
                State::Registered(subscription, mm) => Some((subscription, mm)),
                other => {
                    *state = other;
                    None
                }
            }
        };
        let Some((subscription, mm)) = taken else {
            let misuse = DV_9_UNREGISTER.broken_by(c"mmu_notifier_unregister");
            return Err(errors::misuse(py, misuse));
        };
        let (result, notes) = calls::noting(py, || subscription.unregister());
        let refused = match result {
            Ok(callbacks) => {
                drop(callbacks);
                *slf.get().state() = State::Idle;
                Self::forgotten_by(slf, &mm);
                None
            }
            Err(Refused { guard, error }) => {
                *slf.get().state() = State::Registered(guard, mm);
                Some(error)
            }
        };
        notes.settle(py)?;
        refused.map_or(Ok(()), |error| Err(errors::raise(py, error)))
    }

    /// Gives back one `get`, or the registration. After the last one no callback begins; once those that run are over,
    /// `free_notifier` is called, on the library's worker (`mmu_notifier.synchronize` waits for that). `release` is not called.
    /// Never waits; legal in every callback.
    ///
    /// Raises `MisuseError` (GP-5): there is nothing to give back.
    fn put(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (given, last) = {
            let mut state = slf.get().state();
            match mem::replace(&mut *state, State::Idle) {
                State::Registered(subscription, mm) => (Some((Err(subscription), mm)), true),
                State::Shared(mut shares) => {
                    let share = shares.pop().map(|(share, mm)| (Ok(share), mm));
                    let last = shares.is_empty();
                    if !last {
                        *state = State::Shared(shares);
                    }
                    (share, last)
                }
                other => {
                    *state = other;
                    (None, false)
                }
            }
        };
        let Some((given, mm)) = given else {
            let misuse = GP_5.broken_by(c"mmu_notifier_put");
            return Err(errors::misuse(py, misuse));
        };
        if last {
            let callbacks = given
                .as_ref()
                .map_or_else(Subscription::notifier, Shared::notifier);
            Self::tell_when_freed(slf, callbacks)?;
            Self::forgotten_by(slf, &mm);
        }
        py.detach(|| match given {
            Ok(share) => share.put(),
            Err(subscription) => subscription.put(),
        });
        Ok(())
    }

    /// Is it registered?
    #[getter]
    fn registered(&self) -> bool {
        matches!(*self.state(), State::Registered(..) | State::Shared(_))
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(slf: &Bound<'_, Self>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        Self::unregister(slf)
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        // Here nobody can wait. Shares are put by their own drop.
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::Registered(subscription, _) = mem::replace(state, State::Idle) {
            subscription.put();
        }
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Notifier>()
}
