//! The name that may have been meant.

/// The entry of `known` that is nearest to `given`, when one is near enough to be meant.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().min(given.len()) / 3)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_offered_only_when_it_is_near() {
        let known = ["environment", "git", "docker", "oci", "sbom"];
        assert_eq!(nearest("enviroment", known), Some("environment"));
        assert_eq!(nearest("dokcer", known), Some("docker"));
        assert_eq!(nearest("kubernetes", known), None);
    }
}
