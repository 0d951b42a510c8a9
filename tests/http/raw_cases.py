"""Raw requests and the status each must get. Sections follow RFC 9112 and RFC 9110.

A case is ``name: (bytes, status)``; ``name: (bytes, status, status of gunicorn)`` is an accepted difference, with its
reason beside it. Status None means: closed without a response. Every request makes the server close the connection,
either because it says ``Connection: close`` or because it is refused.
"""

# Gunicorn waits for more bytes: an accepted difference that is not worth waiting for.
WAITS = "waits"

CLOSE = b"Connection: close\r\n"
HOST = b"Host: test\r\n"
TAIL = HOST + CLOSE + b"\r\n"


def get(fields=b"", line=b"GET /echo HTTP/1.1"):
    return line + b"\r\n" + HOST + fields + CLOSE + b"\r\n"


def post(fields, body=b""):
    return b"POST /echo HTTP/1.1\r\n" + HOST + fields + CLOSE + b"\r\n" + body


def chunked(body, fields=b""):
    return post(b"Transfer-Encoding: chunked\r\n" + fields, body)


def line(request_line):
    return request_line + b"\r\n" + TAIL


LINE_ENDS = {
    "plain": (get(), 200),
    "one blank line first": (b"\r\n" + get(), 200),
    "two blank lines first": (b"\r\n\r\n" + get(), 400),
    "bare LF after request line": (b"GET /echo HTTP/1.1\n" + TAIL, 400),
    "bare LF after field": (b"GET /echo HTTP/1.1\r\nHost: test\nConnection: close\r\n\r\n", 400),
    "bare LF everywhere": (b"GET /echo HTTP/1.1\nHost: test\nConnection: close\n\n", 400),
    "bare CR in request line": (b"GET /ec\rho HTTP/1.1\r\n" + TAIL, 400),
    "bare CR in value": (get(b"X-A: a\rb\r\n"), 400),
    "space before request line": (b" " + get(), 400),
    "CRLF CR LF inside value": (get(b"X-A: a\r\n\tb\r\n"), 400),
    "space at start of first field": (b"GET /echo HTTP/1.1\r\n Host: test\r\n" + CLOSE + b"\r\n", 400),
    "NUL in request line": (line(b"GET /ec\0ho HTTP/1.1"), 400),
}

METHODS = {
    **{method: (line(method.encode() + b" /echo HTTP/1.1"), 200) for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS")},
    **{method: (line(method.encode() + b" /echo HTTP/1.1"), 200) for method in ("TRACE", "PROPFIND", "VERSION-CONTROL")},
    "empty method": (line(b" /echo HTTP/1.1"), 400),
    "lower case": (line(b"get /echo HTTP/1.1"), 400),
    "mixed case": (line(b"Get /echo HTTP/1.1"), 400),
    "two letters": (line(b"GO /echo HTTP/1.1"), 400),
    "three letters": (line(b"ABC /echo HTTP/1.1"), 200),
    "20 letters": (line(b"A" * 20 + b" /echo HTTP/1.1"), 200),
    "21 letters": (line(b"A" * 21 + b" /echo HTTP/1.1"), 400),
    "hash": (line(b"GET# /echo HTTP/1.1"), 400),
    "parenthesis": (line(b"GET( /echo HTTP/1.1"), 400),
    "colon": (line(b"GE:T /echo HTTP/1.1"), 400),
    "8-bit": (line(b"GE\xe9 /echo HTTP/1.1"), 400),
    "tab": (line(b"GE\tT /echo HTTP/1.1"), 400),
}

TARGETS = {
    "root": (line(b"GET /echo HTTP/1.1"), 200),
    "query": (line(b"GET /echo?a=1&b=%20 HTTP/1.1"), 200),
    "question marks": (line(b"GET /echo??a=?b HTTP/1.1"), 200),
    "fragment": (line(b"GET /echo#part HTTP/1.1"), 200),
    "percent": (line(b"GET /echo/%41%2f%e2%82%ac%zz HTTP/1.1"), 200),
    "double slash": (line(b"GET //echo/a//b HTTP/1.1"), 200),
    "dots": (line(b"GET /echo/../a/./b HTTP/1.1"), 200),
    "printable odd": (line(b"GET /echo/\"<>\\^`{|} HTTP/1.1"), 200),
    "absolute": (line(b"GET http://test/echo?a=1 HTTP/1.1"), 200),
    "absolute without path": (line(b"GET http://test HTTP/1.1"), 200),
    "absolute https": (line(b"GET https://test:8443/echo HTTP/1.1"), 200),
    "star with OPTIONS": (line(b"OPTIONS * HTTP/1.1"), 200),
    "star with GET": (line(b"GET * HTTP/1.1"), 400),
    "authority with GET": (line(b"GET test:80 HTTP/1.1"), 400),
    "relative": (line(b"GET echo HTTP/1.1"), 400),
    "missing": (line(b"GET HTTP/1.1"), 400),
    "missing, two spaces": (line(b"GET  HTTP/1.1"), 400),
    "two spaces before target": (line(b"GET  /echo HTTP/1.1"), 400),
    "two spaces after target": (line(b"GET /echo  HTTP/1.1"), 400),
    "space in target": (line(b"GET /ec ho HTTP/1.1"), 400),
    "tab in target": (line(b"GET /ec\tho HTTP/1.1"), 400),
    "control": (line(b"GET /ec\x01ho HTTP/1.1"), 400),
    "DEL": (line(b"GET /ec\x7fho HTTP/1.1"), 400),
    "8-bit": (line(b"GET /ech\xc3\xb6 HTTP/1.1"), 400),
}

VERSIONS = {
    "1.0": (line(b"GET /echo HTTP/1.0"), 200),
    "1.2": (line(b"GET /echo HTTP/1.2"), 200),
    "1.9": (line(b"GET /echo HTTP/1.9"), 200),
    "0.9": (line(b"GET /echo HTTP/0.9"), 400),
    "2.0": (line(b"GET /echo HTTP/2.0"), 400),
    "2": (line(b"GET /echo HTTP/2"), 400),
    "simple request": (b"GET /echo\r\n\r\n", 400),
    "none": (line(b"GET /echo "), 400),
    "lower case": (line(b"GET /echo http/1.1"), 400),
    "two digits": (line(b"GET /echo HTTP/1.10"), 400),
    "leading zero": (line(b"GET /echo HTTP/01.1"), 400),
    "no minor": (line(b"GET /echo HTTP/1."), 400),
    "letters": (line(b"GET /echo HTTP/1.x"), 400),
    "other protocol": (line(b"GET /echo SHTTP/1.1"), 400),
    "trailing space": (line(b"GET /echo HTTP/1.1 "), 400),
}

FIELDS = {
    "token characters": (get(b"!#$%&'*+-.^`|~09aZ: x\r\n"), 200),
    "empty value": (get(b"X-A:\r\n"), 200),
    "space round value": (get(b"X-A: \t a b \t \r\n"), 200),
    "no space after colon": (get(b"X-A:b\r\n"), 200),
    "tab in value": (get(b"X-A: a\tb\r\n"), 200),
    "8-bit value": (get(b"X-A: \xe9\xff\x80\r\n"), 200),
    "colons in value": (get(b"X-A: ::a:\r\n"), 200),
    "repeated": (get(b"X-A: a\r\nX-A: b\r\n"), 200),
    "repeated cookie": (get(b"Cookie: a=1\r\nCookie: b=2\r\n"), 200),
    "underscore is dropped": (get(b"X_A: a\r\n"), 200),
    "no colon": (get(b"X-A\r\n"), 400),
    "no name": (get(b": a\r\n"), 400),
    "space before colon": (get(b"X-A : a\r\n"), 400),
    "tab before colon": (get(b"X-A\t: a\r\n"), 400),
    "space in name": (get(b"X A: a\r\n"), 400),
    "8-bit name": (get(b"X-\xc3\xa4: a\r\n"), 400),
    "control in name": (get(b"X-\x01: a\r\n"), 400),
    "parenthesis in name": (get(b"X(A): a\r\n"), 400),
    "quote in name": (get(b'"X": a\r\n'), 400),
    "NUL in value": (get(b"X-A: a\0b\r\n"), 400),
    "control in value": (get(b"X-A: a\x01b\r\n"), 400),
    "DEL in value": (get(b"X-A: a\x7fb\r\n"), 400),
    "folded": (get(b"X-A: a\r\n b\r\n"), 400),
    "folded by tab": (get(b"X-A: a\r\n\tb\r\n"), 400),
}

HOSTS = {
    # RFC 9112 section 3.2 demands 400; Gunicorn lets it pass.
    "missing in 1.1": (b"GET /echo HTTP/1.1\r\n" + CLOSE + b"\r\n", 400, 200),
    "missing in 1.0": (b"GET /echo HTTP/1.0\r\n\r\n", 200),
    "twice": (b"GET /echo HTTP/1.1\r\nHost: test\r\nHost: test\r\n" + CLOSE + b"\r\n", 400),
    "twice in other case": (b"GET /echo HTTP/1.1\r\nHost: a\r\nHOST: b\r\n" + CLOSE + b"\r\n", 400),
    "empty": (b"GET /echo HTTP/1.1\r\nHost:\r\n" + CLOSE + b"\r\n", 200),
    "content-type twice": (get(b"Content-Type: a/b\r\nContent-Type: c/d\r\n"), 400),
}

LENGTHS = {
    "exact": (post(b"Content-Length: 5\r\n", b"hello"), 200),
    "zero": (post(b"Content-Length: 0\r\n"), 200),
    "none": (post(b""), 200),
    "leading zeros": (post(b"Content-Length: 0005\r\n", b"hello"), 200),
    "space round": (post(b"Content-Length: \t 5 \r\n", b"hello"), 200),
    "GET with body": (b"GET /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n" + CLOSE + b"\r\nhello", 200),
    "plus": (post(b"Content-Length: +5\r\n", b"hello"), 400),
    "minus": (post(b"Content-Length: -5\r\n", b"hello"), 400),
    "hexadecimal": (post(b"Content-Length: 0x5\r\n", b"hello"), 400),
    "letters": (post(b"Content-Length: five\r\n", b"hello"), 400),
    "underscore": (post(b"Content-Length: 1_0\r\n", b"hello"), 400),
    "inner space": (post(b"Content-Length: 1 0\r\n", b"hello"), 400),
    "empty value": (post(b"Content-Length:\r\n", b"hello"), 400),
    "fraction": (post(b"Content-Length: 5.0\r\n", b"hello"), 400),
    "superscript": (post(b"Content-Length: \xb2\r\n", b"he"), 400),
    "list of equals": (post(b"Content-Length: 5, 5\r\n", b"hello"), 400),
    "list of others": (post(b"Content-Length: 5,6\r\n", b"hello"), 400),
    "twice equal": (post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"), 400),
    "twice other": (post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello"), 400),
}

SMUGGLING = {
    "CL and TE": (post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), 400),
    "TE and CL": (post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"), 400),
    "CL 0 and TE": (post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), 400),
    "TE twice": (post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), 400),
    "chunked, chunked": (post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), 400),
    "chunked, identity": (post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"), 400),
    "chunked, gzip": (post(b"Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n"), 400),
    "gzip alone": (post(b"Transfer-Encoding: gzip\r\n", b"0\r\n\r\n"), 400),
    "unknown coding": (post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), 501),
    "unknown, chunked": (post(b"Transfer-Encoding: br, chunked\r\n", b"0\r\n\r\n"), 501),
    "quoted": (post(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n"), 501),
    "parameter": (post(b"Transfer-Encoding: chunked;a=b\r\n", b"0\r\n\r\n"), 501),
    "vertical tab": (post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"), 400),
    "space before colon": (post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), 400),
    "folded": (post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"), 400),
    "underscore TE is no TE": (post(b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", b"hello"), 200),
    "underscore CL is no CL": (post(b"Content_Length: 50\r\nContent-Length: 5\r\n", b"hello"), 200),
    "TE in 1.0": (b"POST /echo HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "upper case": (post(b"TRANSFER-ENCODING: CHUNKED\r\n", b"0\r\n\r\n"), 200),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 200),
}

CHUNKS = {
    "one": (chunked(b"5\r\nhello\r\n0\r\n\r\n"), 200),
    "several": (chunked(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), 200),
    "none": (chunked(b"0\r\n\r\n"), 200),
    "capital hex": (chunked(b"A\r\n0123456789\r\n0\r\n\r\n"), 200),
    "small hex": (chunked(b"a\r\n0123456789\r\n0\r\n\r\n"), 200),
    "leading zeros": (chunked(b"005\r\nhello\r\n000\r\n\r\n"), 200),
    "extension": (chunked(b"5;name=value\r\nhello\r\n0;x\r\n\r\n"), 200),
    "quoted extension": (chunked(b'5;name="a;b"\r\nhello\r\n0\r\n\r\n'), 200),
    "CRLF in data": (chunked(b"6\r\nhe\r\nlo\r\n0\r\n\r\n"), 200),
    "trailer": (chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), 200),
    "size missing": (chunked(b"\r\nhello\r\n0\r\n\r\n"), 400),
    "size not hex": (chunked(b"5g\r\nhello\r\n0\r\n\r\n"), 400),
    "0x": (chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), 400),
    "plus": (chunked(b"+5\r\nhello\r\n0\r\n\r\n"), 400),
    "minus": (chunked(b"-5\r\nhello\r\n0\r\n\r\n"), 400),
    "underscore": (chunked(b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n"), 400),
    "space before size": (chunked(b" 5\r\nhello\r\n0\r\n\r\n"), 400),
    "data too long": (chunked(b"4\r\nhello\r\n0\r\n\r\n"), 400),
    "data too short": (chunked(b"6\r\nhello\r\n0\r\n\r\n"), 400),
    "bare LF after size": (chunked(b"5\nhello\r\n0\r\n\r\n"), 400),
    "bare LF after data": (chunked(b"5\r\nhello\n0\r\n\r\n"), 400),
    "bare CR in extension": (chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400),
    "control in extension": (chunked(b"5;a=\x01\r\nhello\r\n0\r\n\r\n"), 400),
    "enormous size": (chunked(b"f" * 40 + b"\r\nhello\r\n0\r\n\r\n"), 400, WAITS),
    "trailer is framing": (chunked(b"0\r\nContent-Length: 5\r\n\r\n"), 400),
    "trailer is host": (chunked(b"0\r\nHost: evil\r\n\r\n"), 400),
    "trailer without colon": (chunked(b"0\r\nbad\r\n\r\n"), 400),
}

EXPECT = {
    "unknown": (post(b"Expect: 200-maybe\r\nContent-Length: 5\r\n", b"hello"), 417),
    "100 in 1.0": (b"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", 200),
}

SECTIONS = {
    "line end": LINE_ENDS,
    "method": METHODS,
    "target": TARGETS,
    "version": VERSIONS,
    "field": FIELDS,
    "host": HOSTS,
    "length": LENGTHS,
    "smuggling": SMUGGLING,
    "chunk": CHUNKS,
    "expect": EXPECT,
}
