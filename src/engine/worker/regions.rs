//! The server's layout of the shared file: regions that inputs and outputs of runs lie in.
//!
//! A region outlives the run and even the worker: answers are slices of it. It goes back to a small pool when the last slice
//! is dropped.

use bytes::Bytes;
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::memory::{Mapping, SharedFile};

/// Bytes of the smallest region. Regions are powers of two, so that a place in the file fits again.
const MIN_REGION: usize = 64 << 10;

/// Bytes that idle regions keep at most.
const MAX_IDLE_BYTES: usize = 16 << 20;

/// A region is not used for a request that needs less than this part of it.
const MAX_SLACK: usize = 8;

/// The regions of one worker.
pub(super) struct Regions {
    file: SharedFile,
    layout: Mutex<Layout>,
}

#[derive(Default)]
struct Layout {
    /// Length of the file.
    end: u64,
    /// Places without pages, by their size.
    holes: BTreeMap<usize, Vec<u64>>,
    /// Regions that nothing uses.
    idle: Vec<FileRange>,
    /// Offsets of regions that the worker should unmap.
    retired: Vec<u64>,
}

/// A mapped place in the file.
struct FileRange {
    offset: u64,
    size: usize,
    /// Bytes that have pages.
    backed: usize,
    mapping: Mapping,
}

/// A place that is in use.
pub(super) struct Region {
    regions: Arc<Regions>,
    /// `None` once it went back.
    place: Option<FileRange>,
}

impl Regions {
    pub(super) fn create() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Regions { file: SharedFile::create()?, layout: Mutex::default() }))
    }

    pub(super) fn file(&self) -> &SharedFile {
        &self.file
    }

    /// A region of at least `length` bytes, all of which have pages. What they hold is left from earlier runs.
    pub(super) fn region(self: &Arc<Self>, length: usize) -> io::Result<Region> {
        let too_large = || io::Error::new(io::ErrorKind::OutOfMemory, "it is larger than the address space");
        let size = length.max(MIN_REGION).checked_next_power_of_two().ok_or_else(too_large)?;
        let mut layout = self.layout();
        let fits = |place: &FileRange| place.size >= size && place.size <= size.saturating_mul(MAX_SLACK);
        let best = layout.idle.iter().enumerate().filter(|(_, place)| fits(place));
        let best = best.min_by_key(|(_, place)| place.size).map(|(index, _)| index);
        let place = best.map(|index| layout.idle.swap_remove(index));
        let place = match place {
            Some(place) => place,
            None => self.new_place(&mut layout, size)?,
        };
        drop(layout);
        let mut region = Region { regions: self.clone(), place: Some(place) };
        region.back(length)?;
        Ok(region)
    }

    fn new_place(&self, layout: &mut Layout, size: usize) -> io::Result<FileRange> {
        let hole = layout.holes.get_mut(&size).and_then(Vec::pop);
        let offset = match hole {
            Some(offset) => offset,
            None => {
                let offset = layout.end;
                self.file.grow(offset + size as u64)?;
                layout.end += size as u64;
                offset
            }
        };
        match Mapping::new(&self.file, offset, size) {
            Ok(mapping) => Ok(FileRange { offset, size, backed: 0, mapping }),
            Err(error) => {
                layout.holes.entry(size).or_default().push(offset);
                Err(error.into())
            }
        }
    }

    /// Offsets of regions that are gone since the last call.
    pub(super) fn take_retired(&self) -> Vec<u64> {
        std::mem::take(&mut self.layout().retired)
    }

    /// Takes back what a region was.
    fn take_back(&self, place: FileRange) {
        let mut layout = self.layout();
        let idle: usize = layout.idle.iter().map(|idle| idle.backed).sum();
        if idle + place.backed <= MAX_IDLE_BYTES {
            layout.idle.push(place);
            return;
        }
        let FileRange { offset, size, mapping, .. } = place;
        drop(mapping);
        self.file.release(offset, size as u64);
        layout.holes.entry(size).or_default().push(offset);
        layout.retired.push(offset);
    }

    fn layout(&self) -> MutexGuard<'_, Layout> {
        // It is consistent at every point where a panic could happen.
        self.layout.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Region {
    pub(super) fn offset(&self) -> u64 {
        self.place.as_ref().map_or(0, |place| place.offset)
    }

    pub(super) fn size(&self) -> usize {
        self.place.as_ref().map_or(0, |place| place.size)
    }

    fn back(&mut self, length: usize) -> io::Result<()> {
        let Region { regions, place: Some(place) } = self else { return Ok(()) };
        if length > place.backed {
            regions.file.back(place.offset, length as u64)?;
            place.backed = length;
        }
        Ok(())
    }

    /// The first bytes, to be written.
    pub(super) fn bytes_mut(&mut self, length: usize) -> &mut [u8] {
        self.place.as_mut().map_or(&mut [], |place| place.mapping.bytes_mut(length))
    }

    /// The first bytes, as slices of which answers are made: the region goes back with the last one.
    pub(super) fn into_bytes(mut self, length: usize) -> Bytes {
        // The worker may have written further than it was expected to.
        if let Some(place) = &mut self.place {
            place.backed = place.backed.max(length.min(place.size));
        }
        Bytes::from_owner(RegionBytes { region: self, length })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.regions.take_back(place);
        }
    }
}

/// The bytes of a region that a worker has handed over.
struct RegionBytes {
    region: Region,
    length: usize,
}

impl AsRef<[u8]> for RegionBytes {
    fn as_ref(&self) -> &[u8] {
        self.region.place.as_ref().map_or(&[], |place| place.mapping.bytes(self.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn regions_share_their_bytes_with_the_file_and_come_back() {
        let regions = Regions::create().unwrap();
        let mut region = regions.region(5).unwrap();
        region.bytes_mut(5).copy_from_slice(b"hello");
        let (offset, mut read) = (region.offset(), [0; 5]);
        regions.file().file().read_exact_at(&mut read, offset).unwrap();
        assert_eq!(&read, b"hello");
        let bytes = region.into_bytes(5);
        let slice = bytes.slice(1..3);
        drop(bytes);
        let other = regions.region(5).unwrap();
        assert_ne!(other.offset(), offset, "a slice still holds the first");
        assert_eq!(&*slice, b"el");
        drop(slice);
        assert_eq!(regions.region(5).unwrap().offset(), offset);
    }

    #[test]
    fn large_regions_release_memory_and_reuse_their_offset() {
        let regions = Regions::create().unwrap();
        let pages = || regions.file().file().metadata().unwrap().blocks() * 512;
        let large = 64 << 20;
        let region = regions.region(large).unwrap();
        let offset = region.offset();
        assert!(pages() >= large as u64);
        drop(region);
        assert!(pages() < 1 << 20, "{}", pages());
        assert_eq!(regions.take_retired(), [offset]);
        let length = regions.file().file().metadata().unwrap().len();
        let again = regions.region(large).unwrap();
        assert_eq!((again.offset(), regions.file().file().metadata().unwrap().len()), (offset, length));
    }

    #[test]
    fn worker_cannot_shrink_the_shared_file() {
        let regions = Regions::create().unwrap();
        let _region = regions.region(1).unwrap();
        assert!(regions.file().file().set_len(0).is_err());
        assert!(regions.region(usize::MAX).is_err());
    }

    proptest! {
        #[test]
        fn regions_in_use_never_overlap(steps in prop::collection::vec((any::<prop::sample::Index>(), 0..300_000usize), 1..40)) {
            let regions = Regions::create().unwrap();
            let mut used: Vec<Region> = Vec::new();
            for (index, length) in steps {
                if !used.is_empty() && index.index(3) == 0 {
                    used.swap_remove(index.index(used.len()));
                } else {
                    let region = regions.region(length).unwrap();
                    prop_assert!(region.size() >= length);
                    used.push(region);
                }
                let mut places: Vec<_> = used.iter().map(|region| (region.offset(), region.size() as u64)).collect();
                places.sort_unstable();
                prop_assert!(places.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{:?}", places);
            }
        }
    }
}
