//! Memory of one instance's runs: blocks that a run frees are kept for the next.
//!
//! To get megabytes from the operating system and to give them back costs a page fault for every 4 KiB, in each run. So a
//! pool keeps what was freed, and the sweeper releases what no run has used for some seconds.

use std::{
    ptr::{self, NonNull},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    account::{Account, Purpose},
    block::{self, BlockHeader},
    refusal::AllocationRefusal,
    sweeper::{self, Sweep},
};

/// Bytes that a pool keeps however long no run has used them.
const ALWAYS_KEPT: usize = 64 << 10;

/// A source of memory that counts in an account.
pub(in crate::engine) struct Pool {
    account: Arc<Account>,
    purpose: Purpose,
    shelves: Mutex<Shelves>,
}

// SAFETY: the pointers on the shelves are to blocks that only the pool knows, and are reached under its lock.
#[allow(unsafe_code, reason = "raw pointers take the automatic implementations away")]
unsafe impl Send for Pool {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "raw pointers take the automatic implementations away")]
unsafe impl Sync for Pool {}

/// Kept blocks and counters.
#[derive(Default)]
struct Shelves {
    /// Lists of kept blocks of one size each, by size.
    shelves: Vec<Shelf>,
    in_use: usize,
    kept: usize,
    /// Blocks that were taken back, until now and until the last sweep.
    taken_back: u64,
    at_last_sweep: u64,
    /// The most that was in use at once since the last sweep, and in the time before it.
    peak: usize,
    previous_peak: usize,
}

struct Shelf {
    bytes: usize,
    /// The list of blocks, that which was freed last first.
    first: *mut BlockHeader,
}

impl Pool {
    /// A pool of an account. Weights are not kept when they are freed: nothing will ask for the same again.
    pub(in crate::engine) fn new(account: Arc<Account>, purpose: Purpose) -> Arc<Self> {
        let pool = Self::unswept(account, purpose);
        if purpose == Purpose::Runs {
            let pool: Arc<dyn Sweep> = pool.clone();
            sweeper::watch(&pool);
        }
        pool
    }

    /// A pool that no thread sweeps.
    fn unswept(account: Arc<Account>, purpose: Purpose) -> Arc<Self> {
        Arc::new(Pool { account, purpose, shelves: Mutex::default() })
    }

    /// Another of the same account.
    pub(in crate::engine) fn sibling(&self) -> Arc<Self> {
        Pool::new(self.account.clone(), self.purpose)
    }

    /// Its account.
    pub(in crate::engine) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Memory for `length` bytes, aligned to 64, and the size of its block. Holds a reference to the pool until [`free`].
    #[allow(unsafe_code, reason = "writes to memory that was free")]
    pub(in crate::engine) fn allocate(
        self: &Arc<Self>,
        length: usize,
        zeroed: bool,
    ) -> Result<(NonNull<u8>, usize), AllocationRefusal> {
        let bytes = block::block_size(length).ok_or(AllocationRefusal::System { asked: length })?;
        let kept = self.lock().take(bytes);
        let mut header = match kept {
            Some(header) => header,
            None => self.obtain(bytes)?,
        };
        let memory = block::memory(header);
        // SAFETY: the block is not in use, so nothing else reads or writes its header or its memory, which has `length` bytes.
        let bytes = unsafe {
            let header = header.as_mut();
            if zeroed && !header.is_zero {
                memory.write_bytes(0, length);
            }
            header.is_zero = false;
            header.pool = Arc::into_raw(self.clone()).cast();
            header.bytes
        };
        Ok((memory, bytes))
    }

    /// A new block from the system, which counts as in use.
    fn obtain(&self, bytes: usize) -> Result<NonNull<BlockHeader>, AllocationRefusal> {
        if let Err(refusal) = self.account.take(self.purpose, bytes) {
            // Memory that other pools keep unused is released before a run is refused.
            sweeper::release_all();
            self.account.take(self.purpose, bytes).map_err(|_| refusal)?;
        }
        let mut shelves = self.lock();
        shelves.use_more(bytes);
        let excess = shelves.take_excess(bytes);
        drop(shelves);
        self.release(excess);
        let obtained = block::obtain(bytes).or_else(|| {
            sweeper::release_all();
            block::obtain(bytes)
        });
        obtained.ok_or_else(|| {
            self.lock().in_use -= bytes;
            self.account.gave_back(self.purpose, bytes);
            AllocationRefusal::System { asked: bytes }
        })
    }

    /// Takes back a block that is in use no more.
    #[allow(unsafe_code, reason = "reads and writes the header of a block")]
    fn put(&self, mut header: NonNull<BlockHeader>) {
        // SAFETY: the block is of this pool and out of use, so nothing else reads or writes its header.
        let bytes = unsafe {
            let header = header.as_mut();
            header.pool = ptr::null();
            header.bytes
        };
        let mut shelves = self.lock();
        shelves.in_use -= bytes;
        if self.purpose == Purpose::Runs {
            shelves.put(header);
            return;
        }
        drop(shelves);
        // SAFETY: as above.
        unsafe { header.as_mut().next = ptr::null_mut() };
        self.release(header.as_ptr());
    }

    /// Gives a list of blocks back to the system.
    #[allow(unsafe_code, reason = "walks a list of blocks")]
    fn release(&self, mut list: *mut BlockHeader) {
        while let Some(header) = NonNull::new(list) {
            // SAFETY: the list holds blocks of this pool that are neither in use nor on a shelf.
            let bytes = unsafe {
                list = header.as_ref().next;
                let bytes = header.as_ref().bytes;
                block::give_back(header);
                bytes
            };
            self.account.gave_back(self.purpose, bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sweep for Pool {
    fn sweep(&self) {
        let mut shelves = self.lock();
        let stale = shelves.at_last_sweep;
        let stale = shelves.take_stale(stale, ALWAYS_KEPT);
        drop(shelves);
        self.release(stale);
    }

    fn release_kept(&self) {
        let all = self.lock().take_stale(u64::MAX, 0);
        self.release(all);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.release_kept();
    }
}

/// Gives memory back to the pool that it came from, and returns that pool and the block's size.
///
/// # Safety
/// The memory came from [`Pool::allocate`], and nothing uses it any more.
#[allow(unsafe_code, reason = "that nothing uses the memory is the caller's promise")]
pub(in crate::engine) unsafe fn free(memory: NonNull<u8>) -> (*const Pool, usize) {
    // SAFETY: promised by the caller; `allocate` left a reference to the pool in the header.
    let (header, pool, bytes) = unsafe {
        let header = block::header(memory);
        let pool: *const Pool = header.as_ref().pool.cast();
        (header, Arc::from_raw(pool), header.as_ref().bytes)
    };
    pool.put(header);
    (Arc::as_ptr(&pool), bytes)
}

impl Shelves {
    fn use_more(&mut self, bytes: usize) {
        self.in_use += bytes;
        self.peak = self.peak.max(self.in_use);
    }

    /// A kept block of this size or of up to twice as much.
    #[allow(unsafe_code, reason = "takes a block off a list")]
    fn take(&mut self, bytes: usize) -> Option<NonNull<BlockHeader>> {
        let from = self.shelves.partition_point(|shelf| shelf.bytes < bytes);
        let fitting = self.shelves[from..].iter_mut().take_while(|shelf| shelf.bytes <= 2 * bytes);
        let shelf = fitting.into_iter().find(|shelf| !shelf.first.is_null())?;
        let header = NonNull::new(shelf.first)?;
        // SAFETY: blocks on a shelf are valid, and nobody else knows them.
        shelf.first = unsafe { header.as_ref().next };
        let bytes = shelf.bytes;
        self.kept -= bytes;
        self.use_more(bytes);
        Some(header)
    }

    /// Keeps a block.
    #[allow(unsafe_code, reason = "puts a block on a list")]
    fn put(&mut self, mut header: NonNull<BlockHeader>) {
        // SAFETY: the block is out of use, and nobody else knows it.
        let header = unsafe { header.as_mut() };
        let at = self.shelves.partition_point(|shelf| shelf.bytes < header.bytes);
        if self.shelves.get(at).is_none_or(|shelf| shelf.bytes != header.bytes) {
            self.shelves.insert(at, Shelf { bytes: header.bytes, first: ptr::null_mut() });
        }
        let shelf = &mut self.shelves[at];
        self.taken_back += 1;
        header.last_used = self.taken_back;
        header.next = shelf.first;
        shelf.first = header;
        self.kept += header.bytes;
    }

    /// Takes blocks off the shelves for a new one of `bytes`, which nothing kept was large enough for.
    ///
    /// One of at least half that size goes in its place: requests for less take the new one from now on. So the blocks of all
    /// tensors of about a size become as large as the largest of these, and few. What is beyond four times the most that runs
    /// have used at once of late goes too, what was used longest ago first.
    #[allow(unsafe_code, reason = "reads headers of kept blocks")]
    fn take_excess(&mut self, bytes: usize) -> *mut BlockHeader {
        let mut list = ptr::null_mut();
        let below = self.shelves.partition_point(|shelf| shelf.bytes < bytes);
        let mut smaller = self.shelves[..below].iter_mut().rev().take_while(|shelf| shelf.bytes >= bytes / 2);
        if let Some(shelf) = smaller.find(|shelf| !shelf.first.is_null())
            && let Some(header) = NonNull::new(shelf.first)
        {
            self.kept -= shelf.bytes;
            list = shelf.unlink(header, ptr::null_mut(), list);
        }
        let allowed = 4 * self.peak.max(self.previous_peak) + ALWAYS_KEPT;
        // SAFETY: blocks on a shelf are valid, and nobody else knows them.
        let last_used = |shelf: &Shelf| unsafe { shelf.first.as_ref() }.map(|header| header.last_used);
        while self.in_use + self.kept > allowed {
            let used = self.shelves.iter_mut().filter_map(|shelf| Some((last_used(shelf)?, shelf)));
            let Some((_, oldest)) = used.min_by_key(|(last_used, _)| *last_used) else { break };
            while let Some(header) = NonNull::new(oldest.first) {
                self.kept -= oldest.bytes;
                list = oldest.unlink(header, ptr::null_mut(), list);
            }
        }
        list
    }

    /// Takes kept blocks off the shelves that were taken back before so many others, but for so many bytes of the smallest.
    #[allow(unsafe_code, reason = "walks a list of blocks")]
    fn take_stale(&mut self, taken_back: u64, spared: usize) -> *mut BlockHeader {
        (self.previous_peak, self.peak) = (self.peak, self.in_use);
        self.at_last_sweep = self.taken_back;
        let (mut list, mut spared) = (ptr::null_mut(), spared);
        for shelf in &mut self.shelves {
            let mut before: *mut BlockHeader = ptr::null_mut();
            let mut next = shelf.first;
            while let Some(header) = NonNull::new(next) {
                // SAFETY: blocks on a shelf are valid, and nobody else knows them.
                let last_used = unsafe { header.as_ref().last_used };
                // SAFETY: as above.
                next = unsafe { header.as_ref().next };
                if last_used > taken_back || shelf.bytes <= spared {
                    spared = spared.saturating_sub(shelf.bytes);
                    before = header.as_ptr();
                    continue;
                }
                self.kept -= shelf.bytes;
                list = shelf.unlink(header, before, list);
            }
        }
        self.shelves.retain(|shelf| !shelf.first.is_null());
        list
    }
}

impl Shelf {
    /// Takes a block, which stands behind `before`, off this list and puts it in front of another.
    #[allow(unsafe_code, reason = "moves a block between lists")]
    fn unlink(
        &mut self,
        mut header: NonNull<BlockHeader>,
        before: *mut BlockHeader,
        list: *mut BlockHeader,
    ) -> *mut BlockHeader {
        // SAFETY: both blocks are on this shelf, so they are valid and nobody else knows them.
        unsafe {
            let next = header.as_ref().next;
            match before.as_mut() {
                Some(before) => before.next = next,
                None => self.first = next,
            }
            header.as_mut().next = list;
        }
        header.as_ptr()
    }
}

#[cfg(test)]
mod tests;
