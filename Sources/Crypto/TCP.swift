import Bytes
import Glibc

/// A connected or listening stream socket, non-blocking; closed when it goes out of scope.
public struct StreamSocket: ~Copyable, Sendable {
    /// The descriptor, owned by this value.
    public let descriptor: Int32

    /// Takes over a descriptor that something else opened (a socket handed over by systemd, one end of a pair).
    public init(adopting descriptor: Int32) throws(CryptoError) {
        self.descriptor = descriptor
        let flags = fcntl(descriptor, F_GETFL)
        guard flags >= 0, fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0,
            fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0
        else {
            throw Self.error("not an open socket")
        }
        Self.sendAtOnce(descriptor)
    }

    /// Takes over what accept4(2) gave with SOCK_NONBLOCK and SOCK_CLOEXEC.
    public init(accepted descriptor: Int32) {
        self.descriptor = descriptor
        Self.sendAtOnce(descriptor)
    }

    /// Conversations here are short and take turns: a small message must not wait for the acknowledgement of the one
    /// before (RFC 9293 §3.7.4), which a peer delays by 40 ms. Sockets of another kind ignore it.
    private static func sendAtOnce(_ descriptor: Int32) {
        var yes: Int32 = 1
        _ = unsafe setsockopt(
            descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
    }

    deinit { _ = Glibc.close(descriptor) }

    /// Connects to `host` (a name or a literal address) and `port`, trying its addresses in order until `deadline`.
    ///
    /// The look-up of a name follows the resolver's own timeout; literal addresses are not looked up.
    public init(connectingTo host: String, port: UInt16, deadline: Deadline) throws(CryptoError) {
        var last = CryptoError(.connection, "\(host): no address")
        for (family, address) in try Self.addresses(host, port, passive: false) {
            do throws(CryptoError) {
                let socket = try StreamSocket(family: family)
                try socket.connect(address, deadline)
                self = socket
                return
            } catch {
                last = CryptoError(.connection, "\(host):\(port): \(error.message)")
            }
        }
        throw last
    }

    /// Listens on `address` (a literal; `::` takes IPv4 as well, and is `0.0.0.0` on a kernel without IPv6) and `port`;
    /// port 0 lets the system choose.
    public init(listeningOn address: String, port: UInt16, backlog: Int32 = 64) throws(CryptoError) {
        do throws(CryptoError) {
            self = try StreamSocket(listeningAt: address, port: port, backlog: backlog)
        } catch {
            guard address == "::" else { throw error }
            self = try StreamSocket(listeningAt: "0.0.0.0", port: port, backlog: backlog)
        }
    }

    private init(listeningAt address: String, port: UInt16, backlog: Int32) throws(CryptoError) {
        guard let (family, name) = try Self.addresses(address, port, passive: true).first else {
            throw CryptoError(.connection, "\(address): no address")
        }
        let socket = try StreamSocket(family: family)
        var yes: Int32 = 1
        _ = unsafe setsockopt(socket.descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        let bound = unsafe Self.withAddress(name) { unsafe bind(socket.descriptor, $0, $1) }
        guard bound == 0,
            listen(socket.descriptor, backlog) == 0
        else {
            throw Self.error("cannot listen on \(address):\(port)")
        }
        self = socket
    }

    private init(family: Int32) throws(CryptoError) {
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = socket(family, kind, 0)
        guard descriptor >= 0 else { throw Self.error("socket") }
        Self.sendAtOnce(descriptor)
        self.descriptor = descriptor
    }

    /// The local port of a TCP socket; 0 where it has none.
    public var localPort: UInt16 {
        var name = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let result = unsafe withUnsafeMutablePointer(to: &name) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe getsockname(descriptor, $0, &length)
            }
        }
        // sin_port and sin6_port stand at the same place.
        let isInternet = Int32(name.sin6_family) == AF_INET || Int32(name.sin6_family) == AF_INET6
        return result == 0 && isInternet ? UInt16(bigEndian: name.sin6_port) : 0
    }

    private static func withAddress(
        _ address: [UInt8], _ body: (UnsafePointer<sockaddr>?, socklen_t) -> Int32
    ) -> Int32 {
        unsafe address.withUnsafeBytes { bytes in
            unsafe bytes.withMemoryRebound(to: sockaddr.self) { unsafe body($0.baseAddress, socklen_t(address.count)) }
        }
    }

    /// Waits for the next connection on a listening socket.
    public func accept(deadline: Deadline) throws(CryptoError) -> StreamSocket {
        while true {
            let accepted = Glibc.accept(descriptor, nil, nil)
            if accepted >= 0 { return try StreamSocket(adopting: accepted) }
            switch errno {
            case EINTR, ECONNABORTED: continue
            case EAGAIN: try Self.wait(descriptor, POLLIN, deadline)
            default: throw Self.error("accept")
            }
        }
    }

    /// Gives the descriptor to another owner.
    public consuming func release() -> Int32 {
        let descriptor = descriptor
        discard self
        return descriptor
    }

    private func connect(_ address: [UInt8], _ deadline: Deadline) throws(CryptoError) {
        if unsafe Self.withAddress(address, { unsafe Glibc.connect(descriptor, $0, $1) }) == 0 { return }
        guard errno == EINPROGRESS || errno == EINTR else { throw Self.error("connect") }
        try Self.wait(descriptor, POLLOUT, deadline)
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length) == 0, code == 0 else {
            throw Self.error("connect", code)
        }
    }

    /// Address family and socket address of every address that `host` has.
    private static func addresses(
        _ host: String, _ port: UInt16, passive: Bool
    ) throws(CryptoError) -> [(family: Int32, address: [UInt8])] {
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        unsafe hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE | AI_NUMERICHOST : AI_ADDRCONFIG)
        // A literal needs no resolver, and AI_ADDRCONFIG would hide ::1 on a machine with loopback only.
        if host.contains(":") || host.utf8.allSatisfy({ $0 == 0x2E || (0x30...0x39).contains($0) }) {
            unsafe hints.ai_flags = AI_NUMERICSERV | AI_NUMERICHOST
        }
        var list: UnsafeMutablePointer<addrinfo>?
        let code = unsafe getaddrinfo(host, String(port), &hints, &list)
        guard code == 0 else {
            throw CryptoError(.connection, "\(host): \(unsafe String(cString: gai_strerror(code)))")
        }
        defer { unsafe freeaddrinfo(list) }
        var found: [(family: Int32, address: [UInt8])] = []
        var next = unsafe list
        while let entry = unsafe next, found.count < 16 {
            let bytes = unsafe UnsafeRawBufferPointer(
                start: entry.pointee.ai_addr, count: Int(entry.pointee.ai_addrlen))
            found.append((unsafe entry.pointee.ai_family, unsafe Array(bytes)))
            unsafe next = entry.pointee.ai_next
        }
        return found
    }

    /// Waits until `descriptor` is ready for `events`, or throws when the deadline passes first.
    static func wait(_ descriptor: Int32, _ events: Int32, _ deadline: Deadline) throws(CryptoError) {
        while true {
            let left = deadline.millisecondsLeft
            guard left > 0 else { throw CryptoError(.connection, "no answer in time") }
            var entry = pollfd(fd: descriptor, events: Int16(truncatingIfNeeded: events), revents: 0)
            let count = unsafe poll(&entry, 1, left)
            if count > 0 { return }
            if count < 0, errno != EINTR { throw error("poll") }
        }
    }

    static func error(_ doing: String, _ code: Int32 = errno) -> CryptoError {
        CryptoError(.connection, "\(doing): \(unsafe String(cString: strerror(code)))")
    }
}
