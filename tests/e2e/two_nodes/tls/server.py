import ssl
from http.server import HTTPServer, SimpleHTTPRequestHandler

server = HTTPServer(("", 8443), SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/cert.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
