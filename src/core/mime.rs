//! stub
use std::borrow::Cow;
/// Bytes at the beginning of a file that decide its type.
pub const HEAD: usize = 3072;
/// The type.
pub fn detect(head: &[u8]) -> Cow<'static, str> {
    if head.is_empty() {
        return Cow::Borrowed("text/plain");
    }
    Cow::Borrowed(mimetype_detector::detect(head).mime())
}
