//! What kind of file a product may be.

use affiant_core::product::Product;

/// Whether a product may be JSON: by what was found in its first bytes, or by its name. Detectors take long JSON for
/// other languages (`text/x-typescript`), because its end is not in what they see.
pub(crate) fn may_be_json(product: &Product) -> bool {
    let kind = product.mime.split(';').next().unwrap_or_default().trim();
    kind.is_empty() || kind == "application/json" || kind.ends_with("+json") || has_extension(&product.path, "json")
}

/// Whether the last extension of a path is this one, in any case.
pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}
