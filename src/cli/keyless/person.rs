//! Whoever logs in: what they are shown, and the browser that is opened for them.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use affiant_core::keyless::login::Device;
use affiant_remote::sigstore::login::Person;
use affiant_supervise::Interrupts;

use crate::cli::output::Output;
use crate::cli::surroundings::variable;

/// Where programs that open browsers are looked for: never in `PATH` (security rule 7).
const FOLDERS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];
/// What opens the browser of a desktop.
const OPENER: &str = "xdg-open";

/// Whoever sits at the terminal.
pub(super) struct AtTerminal<'a> {
    /// Where they log in.
    pub(super) issuer: &'a str,
    /// What they end the login with, where affiant must go on.
    pub(super) interrupts: Option<Interrupts>,
    pub(super) output: &'a Output,
}

impl Person for AtTerminal<'_> {
    fn visit(&self, address: &str) {
        let say = |text: &str| self.output.message(text);
        say(&format!("log in at {}: open this address in a browser on this machine", self.issuer));
        say(address);
        if nix::unistd::Uid::effective().is_root() {
            say("no browser is opened as root; on another machine: `--fulcio-auth-flow device`");
        } else if let Some(name) = open(address) {
            say(&format!("opened with {name}"));
        } else {
            say("no browser is opened; on another machine: `--fulcio-auth-flow device`");
        }
    }

    fn type_in(&self, device: &Device) {
        let say = |text: &str| self.output.message(text);
        say(&format!(
            "log in at {}: open {} in a browser, anywhere, and type {}",
            self.issuer, device.address, device.user_code
        ));
        if let Some(complete) = &device.complete {
            say(&format!("or open {complete}, and compare the code"));
        }
        say(&format!("the code counts for {} s", device.expires));
    }

    fn gave_up(&self) -> bool {
        self.interrupts.as_ref().is_some_and(Interrupts::arrived)
    }
}

/// Opens an address with `$BROWSER`, or as the desktop does it; the program that was started.
fn open(address: &str) -> Option<String> {
    let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
    let has_display = ["DISPLAY", "WAYLAND_DISPLAY"].into_iter().any(|name| variable(name).is_some());
    let words = words(text("BROWSER").as_deref(), has_display, address)?;
    let program = program(Path::new(words.first()?))?;
    let mut command = Command::new(&program);
    // Not of the terminal's group: an interrupt is for us.
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().ok()?;
    std::thread::spawn(move || child.wait());
    Some(program.display().to_string())
}

/// The program and its arguments: of `$BROWSER` the first entry, whose `%s` is the address.
fn words(browser: Option<&str>, has_display: bool, address: &str) -> Option<Vec<String>> {
    let Some(entry) = browser.and_then(|list| list.split(':').find(|entry| !entry.trim().is_empty())) else {
        return has_display.then(|| vec![OPENER.to_owned(), address.to_owned()]);
    };
    let mut words: Vec<String> = entry.split_whitespace().map(|word| word.replace("%s", address)).collect();
    if !entry.contains("%s") {
        words.push(address.to_owned());
    }
    Some(words)
}

fn program(name: &Path) -> Option<PathBuf> {
    if name.is_absolute() {
        return name.is_file().then(|| name.to_owned());
    }
    // A part of a path means the working directory, where anybody may have put something.
    let is_name = name.components().count() == 1;
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| is_name && path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers() {
        let of = |browser, has_display| words(browser, has_display, "http://a/?b").map(|words| words.join(" "));
        assert_eq!(of(None, false), None);
        assert_eq!(of(None, true).as_deref(), Some("xdg-open http://a/?b"));
        assert_eq!(of(Some("w3m"), false).as_deref(), Some("w3m http://a/?b"));
        assert_eq!(of(Some(":/usr/bin/ff -new %s:other"), true).as_deref(), Some("/usr/bin/ff -new http://a/?b"));
        assert_eq!(program(Path::new("sh")).as_deref().and_then(Path::file_name), Some("sh".as_ref()));
        assert_eq!(program(Path::new("./sh")), None);
        assert_eq!(program(Path::new("bin/sh")), None);
        assert_eq!(program(Path::new("/nonexistent/sh")), None);
    }
}
