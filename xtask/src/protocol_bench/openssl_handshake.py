"""What a TLS 1.3 handshake costs OpenSSL's server: microseconds, on standard output, then the version.

Arguments: certificate, key, handshakes. Client and server are in one thread and exchange bytes in memory; only the
server's calls are timed.
"""

import ssl
import sys
import time

CIPHER = "TLS_AES_256_GCM_SHA384"
ALPN = ["http/1.1"]


def context(protocol):
    made = ssl.SSLContext(protocol)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.set_alpn_protocols(ALPN)
    return made


def step(side):
    try:
        side.do_handshake()
        return True
    except ssl.SSLWantReadError:
        return False


def handshake(server_context, client_context):
    """Nanoseconds of the server."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname="cloister")
    started = time.perf_counter_ns()
    server = server_context.wrap_bio(up, down, server_side=True)
    spent = time.perf_counter_ns() - started
    is_done = False
    while not is_done:
        step(client)
        started = time.perf_counter_ns()
        is_done = step(server)
        spent += time.perf_counter_ns() - started
    if (server.version(), server.cipher()[0]) != ("TLSv1.3", CIPHER):
        sys.exit(f"another handshake than was meant: {server.version()} {server.cipher()}")
    return spent


def main(certificate, key, count):
    server = context(ssl.PROTOCOL_TLS_SERVER)
    server.num_tickets = 0
    server.load_cert_chain(certificate, key)
    client = context(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    for _ in range(20):
        handshake(server, client)
    spent = sum(handshake(server, client) for _ in range(count))
    print(spent / count / 1000)
    print(ssl.OPENSSL_VERSION)


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
