//! Aligned floats, and a pointer that several workers may write through.

/// One cache line of floats.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A zeroed buffer of floats on a 64-byte boundary.
pub(crate) struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
    }

    /// Number of floats.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` initialised floats, contiguous because `Line` is exactly 64 bytes.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }

    pub(crate) fn span(&mut self) -> Span {
        Span { at: self.lines.as_mut_ptr().cast(), len: self.len }
    }
}

/// A range of floats that kernels read and write; bounds are asserted when a part is taken.
///
/// It is `Copy` and shared between workers: a step must give its items disjoint parts to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    at: *mut f32,
    len: usize,
}

// SAFETY: a `Span` is only a pointer and a length; that workers write disjoint parts is each step's duty, stated there.
unsafe impl Send for Span {}
unsafe impl Sync for Span {}

impl Span {
    /// `len` floats from `start`.
    ///
    /// # Panics
    /// If they are not inside this span.
    pub(crate) fn part(self, start: usize, len: usize) -> Self {
        assert!(start <= self.len && len <= self.len - start, "part {start}+{len} of a span of {}", self.len);
        // SAFETY: `start` is inside the allocation by the assert.
        Self { at: unsafe { self.at.add(start) }, len }
    }

    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// For reading up to [`Span::len`] floats.
    pub(crate) fn read(self) -> *const f32 {
        self.at
    }

    /// For writing up to [`Span::len`] floats.
    pub(crate) fn write(self) -> *mut f32 {
        self.at
    }

    /// All floats as a slice.
    ///
    /// # Safety
    /// Nobody may write to them while the slice lives.
    pub(crate) unsafe fn slice<'a>(self) -> &'a [f32] {
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }

    /// All floats as a mutable slice.
    ///
    /// # Safety
    /// Nobody else may use them while the slice lives.
    pub(crate) unsafe fn slice_mut<'a>(self) -> &'a mut [f32] {
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }
}
