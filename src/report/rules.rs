//! Every rule whose breach is seen, with its severity and its sentence.

use super::{BUG, INFO, Rule, WARN};

macro_rules! rules {
    ($( $name:ident: $kind:ident $($once:ident)? $id:literal $message:literal; )*) => {
        $(
            #[doc = concat!("Rule of SPEC.md: ", stringify!($name), ".")]
            pub static $name: Rule = Rule::new($id, $kind, rules!(@once $($once)?), $message);
        )*
        /// All of them.
        pub(super) static ALL: &[&Rule] = &[$( &$name ),*];
    };
    (@once) => { false };
    (@once once) => { true };
}

rules! {
    RS_5: WARN c"RS-5" c"invalidate refused a blockable range; the walk goes on as if it had agreed";
    RL_1: WARN c"RL-1" c"invalidate refused the end of the address space; ignored";
    RB_1: BUG c"RB-1" c"the interval notifier was never inserted";
    II_10: BUG c"II-10" c"ops->invalidate is NULL";
    II_10_FINISH: BUG c"II-10" c"ops->invalidate_finish is NULL";
    II_FINISH: WARN once c"2.2" c"ops has invalidate_start without invalidate_finish";
    HS_5_INFO: INFO c"HS-5" c"invalidate_range_start failed";
    HS_5_ANSWER: WARN c"HS-5" c"invalidate_range_start failed for a blockable range, or with another code than -EAGAIN";
    HS_5_END: WARN c"HS-5" c"invalidate_range_start failed although the notifier has invalidate_range_end";
    II_4: WARN c"II-4" c"insert into an address space without users";
    II_1: WARN c"II-1" c"mmap_lock is not held for writing";
    RG_1_LOCK: WARN c"RG-1" c"mmap_lock is not held for writing";
    RG_1_USERS: BUG c"RG-1" c"registration on an address space without users";
    RG_2: WARN once c"RG-2" c"ops has arch_invalidate_secondary_tlbs together with invalidate_range_start or _end";
    GP_1: WARN c"GP-1" c"mmap_lock is not held for writing";
    GP_5: WARN c"GP-5" c"put of a notifier that has no users";
    GP_7: BUG c"GP-7" c"the last put of a notifier whose ops->free_notifier is NULL";
    UN_1: BUG c"UN-1" c"mm_count is not positive";
    ML_2: BUG c"ML-2" c"mm_users is not positive";
    ML_3: BUG c"ML-3" c"mm_count is not positive";
    ML_5: WARN c"ML-5" c"unlock of a lock that is not held in this way; ignored";
    ML_5_OWN: BUG c"ML-5" c"the calling thread holds this lock already, and would wait for itself";
    DS_1: BUG c"DS-1" c"the address space is destroyed with notifiers still registered";
    DV_3_LOCKED: WARN c"DV-3" c"mmap_lock is not held";
    DV_3_WRITE: WARN c"DV-3" c"mmap_lock is not held for writing";
    DV_3_DRIVER_WARN: WARN c"DV-3" c"the driver's own WARN_ON";
    DV_3_DRIVER_BUG: BUG c"DV-3" c"the driver's own BUG_ON";
    DV_7: BUG c"DV-7" c"the call would wait for the callback that makes it";
    DV_8: WARN c"DV-8" c"range end without a start; its interval part is ignored";
    DV_9_INSERT: WARN c"DV-9" c"insert of an interval notifier that is already inserted; refused";
    DV_9_REMOVE: WARN c"DV-9" c"remove of an interval notifier that is not inserted; ignored";
    DV_9_REGISTER: WARN c"DV-9" c"registration of a notifier that is already registered; refused";
    DV_9_UNREGISTER: WARN c"DV-9" c"unregistration of a notifier that is not registered; ignored";
    DV_14_ARGUMENT: BUG c"DV-14" c"a NULL argument where the contract wants an object";
    DV_14_ALLOC: BUG c"DV-14" c"ops->alloc_notifier returned NULL; the contract wants an ERR_PTR";
    RCU_UNLOCK: WARN c"RCU" c"unlock of a read section that was not entered; ignored";
    RCU_CLEANUP: WARN c"RCU" c"the domain still has readers or callbacks";
    RCU_MEMORY: WARN c"RCU" c"no memory to remember the object by; it is leaked";
    LIVE_CALL: WARN c"LIVE-call" c"inside a callback of a change: may wait for a lock that the thread holds which makes the change";
    LIVE_NESTED: WARN c"LIVE-nested" c"a system call inside a callback changes memory; it is made, and nobody is told";
    DV_14_ALLOC_OP: BUG c"DV-14" c"ops->alloc_notifier is NULL";
}
