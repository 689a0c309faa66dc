//! The gate asks nobody: its answers are the same without a network, and where a socket would be its end.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::kit::{APP, POLICY, Run, builder, key, one_step, seal};
use super::place::{Ended, Place, run};

fn place() -> Place {
    let place = Place::new();
    place.write("policy.json", seal(&one_step().to_string(), POLICY, &[&key("policy")]));
    let mut two = one_step();
    two["steps"]["build"]["exitcode"] = json!(1);
    place.write("other.json", seal(&two.to_string(), POLICY, &[&key("policy")]));
    place.write("build.json", Run::build().signed(&[&builder()]));
    place.write("app", APP);
    place
}

/// The same questions, asked through another program that is given the command line of affiant.
fn same_answers(through: &[&str]) {
    let place = place();
    let affiant = env!("CARGO_BIN_EXE_affiant");
    let good = ["-p", "policy.json", "-k", "policy.pub", "-a", "build.json", "app"];
    let denied = ["-p", "other.json", "-k", "policy.pub", "-a", "build.json", "app"];
    let nothing = ["-p", "policy.json", "-k", "policy.pub", "app"];
    for (args, code) in [(&good[..], 0), (&denied[..], 1), (&nothing[..], 3)] {
        let args = [args, &["--at", super::kit::AT, "--offline"]].concat();
        let plain: Ended = run(place.command(&args));
        let line: Vec<&str> = [&through[1..], &[affiant, "verify"], &args].concat();
        let mut command = Command::new(through[0]);
        let there = place.command(&args);
        command.args(&line).current_dir(place.work()).env_clear();
        command.envs(there.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let other = command.output().expect("runs");
        assert_eq!(other.status.code(), Some(code), "{}", String::from_utf8_lossy(&other.stderr));
        assert_eq!((plain.code, plain.stdout.as_bytes()), (code, other.stdout.as_slice()));
    }
}

/// Whether a program ends well; else says that a test was left out.
fn can(what: &str, program: &str, args: &[&str]) -> bool {
    let ended = Command::new(program).args(args).output();
    let fine = ended.as_ref().is_ok_and(|output| output.status.success());
    if !fine {
        eprintln!("LEFT OUT: {what}: `{program}` is not there or not permitted");
    }
    fine
}

#[test]
fn verdicts_are_the_same_in_a_namespace_without_interfaces() {
    for through in [&["unshare", "--net"][..], &["unshare", "--map-root-user", "--net"]] {
        if can("verdicts without a network", through[0], &[&through[1..], &["true"]].concat()) {
            same_answers(through);
            return;
        }
    }
}

/// Loads a filter that kills the process at `socket` and then becomes the program that is named. Without a compiler:
/// `prctl` is called through Python. Only on the machine that the numbers are for.
const FILTER: &str = r"
import ctypes, os, struct, sys
nr = {'x86_64': (0xC000003E, 41), 'aarch64': (0xC00000B7, 198)}[os.uname().machine]
def step(code, jt, jf, k): return struct.pack('HBBI', code, jt, jf, k)
program = b''.join([
    step(0x20, 0, 0, 4), step(0x15, 1, 0, nr[0]), step(0x06, 0, 0, 0x80000000),
    step(0x20, 0, 0, 0), step(0x15, 0, 1, nr[1]), step(0x06, 0, 0, 0x80000000), step(0x06, 0, 0, 0x7FFF0000)])
buffer = ctypes.create_string_buffer(program)
class Program(ctypes.Structure): _fields_ = [('length', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
filter = Program(len(program) // 8, ctypes.addressof(buffer))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(filter), 0, 0): sys.exit(99)
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn verdicts_are_the_same_where_a_socket_is_the_end() {
    let python = "/usr/bin/python3";
    if !Path::new(python).exists() {
        eprintln!("LEFT OUT: verdicts under a filter that kills on socket(): no python3");
        return;
    }
    if !can("verdicts under a filter that kills on socket()", python, &["-c", FILTER, "/bin/true"]) {
        return;
    }
    // The filter does what it says.
    let killed = Command::new(python)
        .args(["-c", FILTER, python, "-c", "import socket; socket.socket()"])
        .output()
        .expect("runs");
    assert!(!killed.status.success() && killed.status.code().is_none(), "{:?}", killed.status);
    same_answers(&[python, "-c", FILTER]);
}
