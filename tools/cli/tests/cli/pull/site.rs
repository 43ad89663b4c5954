//! A server of the tests: answers as it is told, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    /// In small letters, each with its value.
    headers: Vec<(String, String)>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The first byte that is wanted.
    pub fn from(&self) -> usize {
        let range =
            self.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        range.unwrap_or(0)
    }
}

/// What is answered.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Bytes after which the line is cut.
    pub cut: usize,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: Vec::new(), cut: usize::MAX }
    }

    pub fn text(text: impl ToString) -> Reply {
        Reply { body: text.to_string().into_bytes(), ..Reply::status(200) }
    }

    pub fn to(url: String) -> Reply {
        Reply { headers: vec![("Location", url)], ..Reply::status(302) }
    }

    /// What is wanted of a file.
    pub fn file(file: &[u8], asked: &Asked) -> Reply {
        let from = asked.from();
        match from {
            0 => Reply { body: file.to_vec(), ..Reply::status(200) },
            from if from < file.len() => {
                let range = format!("bytes {from}-{}/{}", file.len() - 1, file.len());
                Reply { headers: vec![("Content-Range", range)], body: file[from..].to_vec(), ..Reply::status(206) }
            }
            _ => Reply::status(416),
        }
    }
}

type Answers = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// A server, which lives as long as the test's process.
pub struct Site {
    /// `127.0.0.1` and a port.
    pub host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Site {
    pub fn new(answers: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Site {
        Site::start(answers, None)
    }

    /// The same, encrypted, with a certificate of `ca.pem`'s.
    pub fn encrypted(answers: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Site {
        let certificate = CertificateDer::from_pem_slice(include_bytes!("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("server.key")).unwrap();
        let builder = ServerConfig::builder_with_provider(rustls_graviola::default_provider().into());
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Site::start(answers, Some(Arc::new(builder.with_single_cert(vec![certificate], key).unwrap())))
    }

    fn start(answers: impl Fn(&Asked) -> Reply + Send + Sync + 'static, tls: Option<Arc<ServerConfig>>) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (answers, asked): (Answers, Arc<Mutex<Vec<Asked>>>) = (Arc::new(answers), Arc::default());
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, log, tls) = (answers.clone(), log.clone(), tls.clone());
                // A client that goes away, or does not like the certificate, is no failure of the server's.
                std::thread::spawn(move || match tls {
                    None => drop(serve(stream, &answers, &log)),
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        let _ = serve(StreamOwned::new(connection, stream), &answers, &log);
                    }
                });
            }
        });
        Site { host, asked }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// What was asked since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// Ends a connection as its kind does.
trait Line: Read + Write {
    fn end(&mut self) {}
}

impl Line for TcpStream {}

impl Line for StreamOwned<ServerConnection, TcpStream> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
    }
}

/// One request, one answer.
fn serve(stream: impl Line, answers: &Answers, log: &Mutex<Vec<Asked>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_string()),
        }
    }
    let path = lines[0].split(' ').nth(1).unwrap_or_default().to_string();
    let header = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_string()));
    let asked = Asked { path, headers: lines[1..].iter().filter_map(header).collect() };
    log.lock().unwrap().push(asked.clone());
    let reply = answers(&asked);
    let mut head =
        format!("HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let stream = stream.get_mut();
    stream.write_all((head + "\r\n").as_bytes())?;
    stream.write_all(&reply.body[..reply.body.len().min(reply.cut)])?;
    stream.flush()?;
    stream.end();
    Ok(())
}
