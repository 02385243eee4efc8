"""Greets, in two languages."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def greeting(path: str) -> str:
    """Return the greeting for a path."""
    if path == "/de":
        return "Guten Tag"
    if path == "/never":
        return "not requested by any test"
    return "Hello"


class Handler(BaseHTTPRequestHandler):
    """Answers each request."""

    def do_GET(self) -> None:
        """Greet."""
        body = greeting(self.path).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("", 8080), Handler).serve_forever()
