//! Whether a destination's server answers at all, without sending it anything of a report.

use std::time::Duration;

use super::client::{Timeouts, client, described};
use super::destination::Profile;

/// Somebody waits before a terminal.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(10), answer: Duration::from_secs(10), whole: Duration::from_secs(20) };

/// Asks the server for its front page, by the way that uploads take (proxy and TLS), and returns the HTTP status of what it
/// answers. Neither the address's path nor a key in it is sent.
///
/// # Errors
/// Why there is no answer, for people.
pub fn reach(profile: &Profile) -> Result<u16, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("can't start the network's part: {error}"))?;
    let mut url = profile.url().clone();
    url.set_path("/");
    url.set_query(None);
    runtime.block_on(async {
        let client = client(&url, TIMEOUTS).map_err(|error| described(&error))?;
        let answer = client.get(url).send().await.map_err(|error| described(&error))?;
        Ok(answer.status().as_u16())
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_server_is_greeted_without_path_or_key_and_its_status_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n").unwrap();
            String::from_utf8(head).unwrap()
        });
        let profile = Profile::parse(&format!("http://127.0.0.1:{port}/submit/secret?token=key"), None).unwrap();
        assert_eq!(reach(&profile), Ok(405));
        assert!(server.join().unwrap().starts_with("GET / HTTP/1.1\r\n"));
        // Nobody listens there any more.
        assert!(reach(&profile).unwrap_err().contains("no connection"));
    }
}
