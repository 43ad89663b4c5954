"""A slow and unreliable wire between a browser and a server: the server is the real one, and answers as it always does."""

import http.client
import http.server
import threading
import time


class Wire:
    """Passes requests on. `delay` is waited for after each event of a stream; `events` is where a stream is cut (None:
    nowhere); with `busy`, nothing is passed on and the answer is that of a server that is full."""

    def __init__(self, port):
        self.delay, self.events, self.busy, self.absent = 0.0, None, False, ()
        self.paths, self.bodies = [], []
        wire = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.pass_on(None)

            def do_POST(self):
                self.pass_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def pass_on(self, body):
                wire.paths.append(self.path)
                if body is not None:
                    wire.bodies.append(body)
                if self.path in wire.absent:
                    return self.whole(404, b"", {})
                if wire.busy and self.path.endswith("/completions"):
                    error = b'{"error":{"message":"as many requests as this server lets wait are waiting already; try again later","type":"unavailable_error","param":null,"code":"overloaded"}}'
                    return self.whole(503, error, {"Content-Type": "application/json", "Retry-After": "7"})
                upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                try:
                    upstream.request(self.command, self.path, body, dict(self.headers))
                    answer = upstream.getresponse()
                    if answer.getheader("Content-Type") == "text/event-stream":
                        self.stream(answer)
                    else:
                        kept = {k: v for k, v in answer.getheaders() if k.lower() not in ("content-length", "transfer-encoding")}
                        self.whole(answer.status, answer.read(), kept)
                except (BrokenPipeError, ConnectionError):
                    self.close_connection = True
                finally:
                    upstream.close()

            def whole(self, status, body, headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def stream(self, answer):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                passed = 0
                for line in answer:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                    self.wfile.flush()
                    if line == b"\n":
                        passed += 1
                        time.sleep(wire.delay)
                    if wire.events is not None and passed >= wire.events:
                        # Without the last chunk: the browser sees that something is missing.
                        self.close_connection = True
                        return
                self.wfile.write(b"0\r\n\r\n")

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """The browser has closed a connection."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
