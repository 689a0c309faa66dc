//! A small archivista: its REST, and as much of its GraphQL as clients use (wire-formats §6).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use affiant_remote::archivista::gitoid;
use serde_json::{Value, json};

#[derive(Default)]
pub(crate) struct Store {
    /// Envelopes by gitoid.
    pub(crate) held: BTreeMap<String, Vec<u8>>,
    /// Those of them that no search finds.
    pub(crate) unindexed: BTreeSet<String>,
    /// How many lies were told.
    pub(crate) lied: usize,
    /// The heads of all questions, in small letters.
    pub(crate) heads: Vec<String>,
    /// Method, path and headers of each question, in small letters.
    pub(crate) asked: Vec<String>,
    /// What GraphQL finds, and what it was asked.
    pub(crate) found: Vec<Value>,
    pub(crate) variables: Vec<Value>,
}

/// Answers instead of it, by the head of a question in small letters.
pub(crate) type Lie = fn(&str) -> Option<(u16, String)>;

/// Serves until the test ends; `lie` answers first.
pub(crate) fn serve(lie: Lie) -> (String, Arc<Mutex<Store>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let store = Arc::new(Mutex::new(Store::default()));
    let serving = Arc::clone(&store);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let mut head = String::new();
            while reader.read_line(&mut head).unwrap_or(0) > 0 && !head.ends_with("\r\n\r\n") {}
            let head = head.to_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).expect("a body");
            let mut held = serving.lock().expect("no panic");
            held.heads.push(head.clone());
            let told = lie(&head);
            held.lied += usize::from(told.is_some());
            let (status, answer) = told.unwrap_or_else(|| held.answer(&head, &body));
            drop(held);
            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
            let _ = (&stream).write_all(text.as_bytes()).and_then(|()| (&stream).write_all(answer.as_bytes()));
        }
    });
    (base, store)
}

impl Store {
    fn answer(&mut self, head: &str, body: &[u8]) -> (u16, String) {
        self.asked.push(head.to_owned());
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path == "/upload" {
            let id = gitoid(body);
            if self.held.insert(id.clone(), body.to_vec()).is_some() {
                return (500, "UNIQUE constraint failed: dsses.gitoid_sha256".to_owned());
            }
            return (200, format!("{{\"gitoid\":\"{id}\"}}\n"));
        }
        if let Some(id) = path.strip_prefix("/download/") {
            return match self.held.get(id) {
                Some(bytes) => (200, String::from_utf8(bytes.clone()).expect("text")),
                None => (500, "open: no such file".to_owned()),
            };
        }
        if path == "/query" {
            let question: Value = serde_json::from_slice(body).expect("JSON");
            self.variables.push(question["variables"].clone());
            if let Some(id) = question["variables"]["gitoid"].as_str() {
                let found = self.held.contains_key(id) && !self.unindexed.contains(id);
                let edges: Vec<_> = found.then(|| json!({ "node": { "gitoidSha256": id } })).into_iter().collect();
                return (200, json!({ "data": { "dsses": { "edges": edges } } }).to_string());
            }
            let known = question["variables"]["known"].as_array().cloned().unwrap_or_default();
            let edges: Vec<_> = self
                .found
                .iter()
                .filter(|node| !known.contains(&node["gitoidSha256"]))
                .map(|node| json!({ "node": node }))
                .collect();
            return (200, json!({ "data": { "dsses": { "edges": edges } } }).to_string());
        }
        (404, "404 page not found".to_owned())
    }
}

/// Tells no lies.
pub(crate) fn honest(_: &str) -> Option<(u16, String)> {
    None
}
