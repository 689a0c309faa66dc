//! What one command keeps with images: all of it is written, then watched together where others write as well, and said
//! when it is sure to have stayed.

use affiant_core::image::Descriptor;
use affiant_core::image::shared::{Pace, Settling, SharedError, Ticket};

use super::place::Image;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::Output;

/// A message about something that was kept.
pub(super) struct Said {
    /// What must have stayed for it to be true.
    ticket: Option<Ticket>,
    /// About which place it is.
    place: String,
    text: String,
}

impl Said {
    /// `text` is true where what `ticket` stands for stays; without one, it is true already.
    pub(super) fn new(ticket: Option<Ticket>, place: &str, text: String) -> Self {
        Self { ticket, place: place.to_owned(), text }
    }
}

/// A tag or a list was not written.
pub(super) fn not_kept(place: &str, error: &SharedError) -> Failure {
    Failure::because(Kind::NoAnswer, format!("{place}: it was signed, and could not be kept"), error)
        .hint("the same again does the rest, and leaves what was kept as it is")
}

/// Most places that are named of those with which nothing was begun.
const NAMED: usize = 20;

/// Says with what nothing was begun after the first failure.
pub(super) fn not_begun(left: &[(&Image, Descriptor)], output: &Output) {
    if left.is_empty() {
        return;
    }
    let places = left.iter().take(NAMED).map(|(image, manifest)| format!("{}@{}", image.name(), manifest.digest));
    let more = left.len().checked_sub(NAMED + 1).map(|more| format!(", and {} more", more + 1)).unwrap_or_default();
    output.message(&format!("not begun: {}{more}", places.collect::<Vec<_>>().join(", ")));
}

/// Does work that writes with images and puts into its list what is to be said of it. Then waits until all of it is sure to
/// have stayed, and says it; also where the work has failed.
///
/// # Errors
/// The work's, and with it what did not stay.
pub(super) fn together<'a, T>(
    output: &Output,
    failed: impl Fn(&str, &SharedError) -> Failure,
    work: impl FnOnce(&Settling<'a>, &mut Vec<Said>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let settling = Settling::new(Pace::default());
    let mut said = Vec::new();
    let worked = work(&settling, &mut said);
    let settled = settling.settle();
    let mut lost: Vec<&str> = Vec::new();
    for one in &said {
        if one.ticket.is_none_or(|ticket| settled.has(ticket)) {
            output.message(&one.text);
        } else if !lost.contains(&one.place.as_str()) {
            lost.push(&one.place);
        }
    }
    let Err(error) = settled.result() else { return worked };
    let places = if lost.is_empty() { "an image".to_owned() } else { lost.join(", ") };
    let failure = failed(&places, &error);
    match worked {
        Ok(_) => Err(failure),
        Err(first) => {
            output.failure(&failure);
            Err(first)
        }
    }
}

/// Puts what is to be said of an image into the list; of an archive it is said when it is written.
pub(super) fn say(said: &mut Vec<Said>, image: &Image, more: Vec<Said>, output: &Output) {
    if image.keeper().is_own() {
        for one in more {
            image.tell(one.text, output);
        }
    } else {
        said.extend(more);
    }
}

/// Does two things at the same time.
pub(super) fn both<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), other)
    })
}
