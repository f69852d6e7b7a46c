//! Lines that wait to be written, in memory that goes back to the operating system when they have been.
//!
//! Not in vectors: while a disk is behind, megabytes wait that no other time needs, and an allocator keeps what it was
//! given back for the next one.

use std::{collections::VecDeque, mem};

use memmap2::MmapMut;
use tokio::sync::oneshot;

/// Lines that may wait: some MiB, and minutes of a busy night.
const MOST: u32 = 10_000;
/// Bytes of a block, or as many as its only line has: what comes together is written at once.
const BLOCK: usize = 256 * 1024;

/// Whoever waits for a line to be written.
pub(super) type Told = oneshot::Sender<Result<(), NotWritten>>;

/// A record is not in the trail, and its call must not go on as if it were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWritten;

/// Tells whoever waits, if somebody does.
pub(super) fn tell(told: Option<Told>, what: Result<(), NotWritten>) {
    if let Some(told) = told {
        // Its caller may have gone.
        let _ = told.send(what);
    }
}

/// The oldest first.
#[derive(Debug, Default)]
pub(super) struct Lines {
    blocks: VecDeque<Block>,
    /// In all blocks.
    count: u32,
    /// Where a line is made before it has a place.
    draft: Vec<u8>,
    /// An empty one, for the next that is needed: where the disk keeps up, no other is.
    spare: Option<Block>,
}

impl Lines {
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds the line that is written, or gives back who waits for it when there are too many, or there is no memory.
    pub(super) fn push(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
        told: Option<Told>,
    ) -> Result<(), Option<Told>> {
        if self.count >= MOST {
            return Err(told);
        }
        let mut line = mem::take(&mut self.draft);
        line.clear();
        write(&mut line);
        let pushed = match self.with_room_for(line.len()) {
            Some(block) => {
                block.push(&line, told);
                self.count += 1;
                Ok(())
            }
            None => Err(told),
        };
        self.draft = line;
        pushed
    }

    /// Adds those of another, which came later; gives back how many there is no place for. Whoever waits for one of these
    /// has been told.
    pub(super) fn append(&mut self, later: Self) -> u32 {
        let mut lost = 0;
        for mut block in later.blocks {
            lost += block.keep(MOST - self.count);
            self.count += block.lines;
            match self.blocks.back_mut() {
                // Or each attempt on a disk that is full would leave a block with a line or two.
                Some(last) if last.has_room_for(block.rest().len()) => last.append(block),
                _ if block.lines > 0 => self.blocks.push_back(block),
                _ => {}
            }
        }
        lost
    }

    /// What is to be written next: some lines, the first of them perhaps without its beginning.
    pub(super) fn next(&self) -> &[u8] {
        self.blocks.front().map_or(&[], Block::rest)
    }

    /// Takes away that many bytes of [`Self::next`], which have been written; gives back how many lines end in them.
    pub(super) fn written(&mut self, bytes: usize) -> u32 {
        let Some(first) = self.blocks.front_mut() else { return 0 };
        let lines = first.written(bytes);
        self.count -= lines;
        if first.lines == 0 {
            self.spare = self.blocks.pop_front().and_then(Block::emptied);
        }
        lines
    }

    /// Has the first line written as a whole once more.
    pub(super) fn begin_line_anew(&mut self) {
        if let Some(first) = self.blocks.front_mut() {
            first.written = first.begin;
        }
    }

    /// Tells everybody who waits that it has not been written. The lines stay.
    pub(super) fn give_up(&mut self) {
        for (_, told) in self.blocks.iter_mut().flat_map(|block| block.told.drain(..)) {
            tell(Some(told), Err(NotWritten));
        }
    }

    fn with_room_for(&mut self, bytes: usize) -> Option<&mut Block> {
        if !self.blocks.back().is_some_and(|last| last.has_room_for(bytes)) {
            let block = match self.spare.take() {
                Some(spare) if spare.has_room_for(bytes) => spare,
                _ => Block::new(bytes.max(BLOCK))?,
            };
            self.blocks.push_back(block);
        }
        self.blocks.back_mut()
    }
}

/// Some lines, side by side.
#[derive(Debug)]
struct Block {
    room: MmapMut,
    /// Bytes of it that lines take.
    filled: usize,
    /// Bytes of these that are in the trail already.
    written: usize,
    /// Where the first line begins whose end is not.
    begin: usize,
    /// Where that one ends, and each behind it.
    ends: VecDeque<usize>,
    /// Their number.
    lines: u32,
    /// Whoever waits for one of them, each with the end of its line.
    told: VecDeque<(usize, Told)>,
}

impl Block {
    /// Nothing, when the operating system has no memory.
    fn new(bytes: usize) -> Option<Self> {
        let room = MmapMut::map_anon(bytes).ok()?;
        let (ends, told) = (VecDeque::new(), VecDeque::new());
        Some(Self { room, filled: 0, written: 0, begin: 0, ends, lines: 0, told })
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.room.len() - self.filled >= bytes
    }

    fn rest(&self) -> &[u8] {
        &self.room[self.written..self.filled]
    }

    fn push(&mut self, line: &[u8], told: Option<Told>) {
        self.fill(line);
        self.ends.push_back(self.filled);
        self.lines += 1;
        self.told.extend(told.map(|told| (self.filled, told)));
    }

    /// Takes over the lines of another, of which nothing is written; there is room for them.
    fn append(&mut self, later: Self) {
        let moved = self.filled;
        self.fill(later.rest());
        self.ends.extend(later.ends.into_iter().map(|end| moved + end));
        self.lines += later.lines;
        self.told.extend(later.told.into_iter().map(|(end, told)| (moved + end, told)));
    }

    fn fill(&mut self, bytes: &[u8]) {
        let end = self.filled + bytes.len();
        self.room[self.filled..end].copy_from_slice(bytes);
        self.filled = end;
    }

    fn written(&mut self, bytes: usize) -> u32 {
        let before = self.lines;
        self.written += bytes;
        while let Some(end) = self.ends.pop_front_if(|end| *end <= self.written) {
            self.begin = end;
            self.lines -= 1;
        }
        while let Some((_, told)) = self.told.pop_front_if(|(end, _)| *end <= self.begin) {
            tell(Some(told), Ok(()));
        }
        before - self.lines
    }

    /// Drops what is beyond so many lines, the newest, where nothing is written yet; gives back how many these were.
    fn keep(&mut self, most: u32) -> u32 {
        let before = self.lines;
        while self.lines > most {
            self.ends.pop_back();
            self.lines -= 1;
        }
        self.filled = self.ends.back().copied().unwrap_or(self.begin);
        while let Some((_, told)) = self.told.pop_back_if(|(end, _)| *end > self.filled) {
            tell(Some(told), Err(NotWritten));
        }
        before - self.lines
    }

    /// For others, where it is of the usual size.
    fn emptied(mut self) -> Option<Self> {
        (self.filled, self.written, self.begin) = (0, 0, 0);
        (self.room.len() == BLOCK).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(lines: &mut Lines, line: &str) -> Option<oneshot::Receiver<Result<(), NotWritten>>> {
        let (told, written) = oneshot::channel();
        let pushed = lines.push(|to| to.extend_from_slice(line.as_bytes()), Some(told));
        pushed.is_ok().then_some(written)
    }

    /// Takes what is next by so many bytes at a time.
    fn drain(lines: &mut Lines, at_once: usize) -> (String, u32) {
        let (mut all, mut whole) = (Vec::new(), 0);
        while !lines.is_empty() {
            let bytes = lines.next().len().min(at_once);
            all.extend_from_slice(&lines.next()[..bytes]);
            whole += lines.written(bytes);
        }
        (String::from_utf8(all).expect("text"), whole)
    }

    #[test]
    fn lines_come_out_as_they_came_in_whatever_is_taken_at_once() {
        let long = format!("{}\n", "x".repeat(BLOCK + 1));
        let half = format!("{}\n", "y".repeat(BLOCK / 2));
        let all = ["a\n", &half, &half, &long, "bc\n", &half, "d\n"];
        for at_once in [1, 7, BLOCK, usize::MAX] {
            let mut lines = Lines::default();
            let mut told: Vec<_> = all.iter().map(|line| push(&mut lines, line).expect("room")).collect();
            assert_eq!(drain(&mut lines, at_once), (all.concat(), 7));
            assert!(told.iter_mut().all(|told| told.try_recv() == Ok(Ok(()))));
            assert!(lines.blocks.is_empty(), "memory is kept");
            assert!(lines.spare.is_some_and(|spare| spare.room.len() == BLOCK));
        }
    }

    #[test]
    fn who_waits_is_told_when_the_line_has_been_written_to_its_end() {
        let mut lines = Lines::default();
        let mut told = [push(&mut lines, "ab\n"), push(&mut lines, "cd\n")].map(|told| told.expect("room"));
        assert_eq!(lines.written(2), 0);
        assert!(told[0].try_recv().is_err());
        assert_eq!(lines.written(2), 1);
        assert_eq!(told[0].try_recv(), Ok(Ok(())));
        lines.give_up();
        assert_eq!(told[1].try_recv(), Ok(Err(NotWritten)));
        assert_eq!(lines.next(), b"d\n", "what nobody waits for any more is written all the same");
    }

    #[test]
    fn a_torn_line_begins_anew() {
        let mut lines = Lines::default();
        for line in ["ab\n", "cd\n"] {
            push(&mut lines, line).expect("room");
        }
        lines.written(4);
        lines.begin_line_anew();
        assert_eq!(lines.next(), b"cd\n");
        lines.begin_line_anew();
        assert_eq!(drain(&mut lines, 1), ("cd\n".to_owned(), 1));
    }

    #[test]
    fn what_comes_later_is_put_behind_as_far_as_there_is_a_place_and_in_few_blocks() {
        let mut lines = Lines::default();
        let first = (0..MOST - 2).map(|at| format!("{at}\n")).collect::<Vec<_>>();
        for line in &first {
            push(&mut lines, line).expect("room");
        }
        lines.written(1);
        let mut later = Lines::default();
        let mut told = ["x\n", "y\n", "z\n"].map(|line| push(&mut later, line).expect("room"));
        assert_eq!(lines.append(later), 1);
        assert_eq!(told[2].try_recv(), Ok(Err(NotWritten)));
        assert!(push(&mut lines, "w\n").is_none(), "too many");
        let mut none = Lines::default();
        push(&mut none, "v\n").expect("room");
        assert_eq!(lines.append(none), 1);
        assert_eq!(lines.blocks.len(), 1);
        lines.begin_line_anew();
        assert_eq!(drain(&mut lines, 1000), (first.concat() + "x\ny\n", MOST));
        assert_eq!([told[0].try_recv(), told[1].try_recv()], [Ok(Ok(())), Ok(Ok(()))]);
    }
}
