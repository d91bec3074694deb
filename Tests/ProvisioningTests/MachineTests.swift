import Bytes
import TestKit
import Testing

@testable import Provisioning

@Suite("QEMU's command line")
struct QEMUCommandTests {
    private func arguments(
        image: String? = "/images/nacre.raw", acceleration: Acceleration.Kind = .tcg
    ) -> [String] {
        MachineShape(
            name: "nacre-control-plane-0", memoryMiB: 2048, processors: 2, image: image, firmwareCode: "/fw/CODE.fd",
            port: 40001
        ).arguments(acceleration: acceleration, machine: MachineShape.pinnedMachine, tpm: 3)
    }

    private func values(_ option: String, in arguments: [String]) -> [String] {
        zip(arguments, arguments.dropFirst()).filter { $0.0 == option }.map(\.1)
    }

    @Test("nothing is in the machine that is not named")
    func bare() {
        let all = arguments()
        #expect(all.contains("-nodefaults") && all.contains("-no-user-config"))
        #expect(
            values("-device", in: all) == [
                "tpm-crb,tpmdev=tpm0", "virtio-rng-pci,rng=rng0", "virtio-net-pci,netdev=net0,romfile=",
                "virtio-blk-pci,drive=system,bootindex=0",
            ])
        #expect(values("-machine", in: all) == ["pc-q35-10.0,smm=off,vmport=off"])
    }

    @Test("a panic restarts the node: QEMU must not end at a reset")
    func restarts() { #expect(!arguments().contains("-no-reboot")) }

    @Test("the image and the firmware's code are never written")
    func readOnly() {
        let drives = values("-drive", in: arguments())
        #expect(drives.first == "if=pflash,unit=0,format=raw,readonly=on,file=/fw/CODE.fd")
        #expect(
            values("-blockdev", in: arguments()) == [
                "driver=raw,node-name=system,read-only=on,file.driver=file,file.filename=/images/nacre.raw"
            ])
    }

    @Test("the guest reaches nothing; only this host's loopback reaches its one port")
    func network() {
        #expect(
            values("-netdev", in: arguments()) == [
                "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:40001-:9000"
            ])
    }

    @Test("a state disk is one more, of which the firmware is not told; nodes of one cluster reach the loopback")
    func stateDisk() {
        var shape = MachineShape(
            name: "nacre-worker-0", memoryMiB: 2048, processors: 2, image: "/images/nacre.raw",
            firmwareCode: "/fw/CODE.fd", port: 40001)
        shape.diskMiB = 30 << 10
        shape.reachesHost = true
        let all = shape.arguments(acceleration: .tcg, machine: MachineShape.pinnedMachine, tpm: 3)
        #expect(
            values("-blockdev", in: all).last
                == "driver=raw,node-name=state,file.driver=file,file.filename=state.img")
        #expect(
            values("-device", in: all).suffix(2) == [
                "virtio-blk-pci,drive=system,bootindex=0", "virtio-blk-pci,drive=state,serial=nacre-state",
            ])
        #expect(values("-netdev", in: all).first?.hasPrefix("user,id=net0,restrict=off,") == true)
    }

    @Test("the processor follows the acceleration")
    func processor() {
        #expect(values("-accel", in: arguments()) == ["tcg,thread=multi"])
        #expect(values("-cpu", in: arguments()) == ["max,vendor=GenuineIntel,family=6,model=28,stepping=10"])
        #expect(values("-accel", in: arguments(acceleration: .kvm)) == ["kvm"])
        #expect(values("-cpu", in: arguments(acceleration: .kvm)) == ["host"])
    }

    @Test("a comma in a path adds no option")
    func commas() {
        let drive = values("-blockdev", in: arguments(image: "/a,read-only=off,b.raw"))
        #expect(drive.first?.hasSuffix("file.filename=/a,,read-only=off,,b.raw") == true)
    }

    @Test("without an image there is no disk")
    func firmwareOnly() { #expect(values("-blockdev", in: arguments(image: nil)).isEmpty) }

    @Test(
        "versions",
        arguments: [
            ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright", "10.0"),
            ("QEMU emulator version 7.2.22 (Debian)", "7.2"), ("QEMU emulator version 11.1", "11.1"),
        ])
    func versions(_ text: String, _ version: String) { #expect(QEMUVersion(text)?.description == version) }

    @Test("no version", arguments: ["", "version", "QEMU version x.y", "QEMU emulator version 10"])
    func noVersion(_ text: String) { #expect(QEMUVersion(text) == nil) }

    @Test(
        "sizes of memory",
        arguments: [
            ("2G", 2048), ("2GiB", 2048), ("2048M", 2048), ("512", 512), ("1g", 1024), ("127M", nil), ("", nil),
            ("2T", nil), ("-2G", nil), ("999999999G", nil), ("2.5G", nil), ("G", nil),
        ] as [(String, Int?)])
    func memory(_ text: String, _ size: Int?) { #expect(MemorySize.mebibytes(text) == size) }
}

@Suite("Choosing how to run the guest")
struct AccelerationTests {
    @Test("KVM needs a processor flag and a working interface; else emulation, with the reason")
    func choice() {
        let both = Acceleration.choose(processorFlags: ["sse2", "svm"], kvm: .works)
        #expect(both.kind == .kvm && both.reason.contains("svm"))
        let noFlag = Acceleration.choose(processorFlags: ["sse2"], kvm: .works)
        #expect(noFlag.kind == .tcg && noFlag.reason.contains("neither svm nor vmx"))
        let noDevice = Acceleration.choose(processorFlags: ["vmx"], kvm: .fails("/dev/kvm creates no machine"))
        #expect(noDevice.kind == .tcg && noDevice.reason.contains("creates no machine"))
    }

    @Test("flags are whole words of the flags line")
    func flags() {
        let text = "processor : 0\nvmx flags\t: none\nflags\t\t: fpu svm_lock vmx\nflags : svm\n"
        #expect(Acceleration.processorFlags(Array(text.utf8)) == ["fpu", "svm_lock", "vmx"])
        #expect(Acceleration.processorFlags([]) == [])
    }

    @Test("a file that is no KVM is none")
    func probe() {
        #expect(KVMProbe.probe(device: "/dev/null") != .works)
        #expect(KVMProbe.probe(device: "/nonexistent") != .works)
    }
}

@Suite("QEMU's monitor")
struct QMPTests {
    private func message(_ text: String) throws -> QMPMessage { try QMPMessage(line: Array(text.utf8)) }

    @Test("messages")
    func messages() throws {
        #expect(try message("{\"QMP\":{\"version\":{},\"capabilities\":[]}}") == .greeting)
        #expect(try message("{\"return\":{}}") == .result([:]))
        #expect(try message("{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}}") == .failure("no"))
        #expect(
            try message("{\"event\":\"RESET\",\"data\":{\"guest\":true,\"reason\":\"guest-reset\"}}").isGuestReset)
        #expect(
            try !message("{\"event\":\"RESET\",\"data\":{\"guest\":false,\"reason\":\"host\"}}").isGuestReset)
        #expect(try !message("{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true}}").isGuestReset)
        #expect(throws: ParseError.self) { try message("{}") }
        #expect(throws: ParseError.self) { try message("[") }
    }

    @Test("a stream is cut at line ends, wherever its pieces end")
    func lines() throws {
        let stream = Array("{\"return\":{}}\r\n\r\n{\"event\":\"STOP\"}\n".utf8)
        for cut in stream.indices {
            var buffer = QMPBuffer()
            let lines = try buffer.lines(Array(stream[..<cut])) + buffer.lines(Array(stream[cut...]))
            #expect(lines.map { String(decoding: $0, as: UTF8.self) } == ["{\"return\":{}}", "{\"event\":\"STOP\"}"])
        }
        var buffer = QMPBuffer()
        #expect(throws: ParseError.self) { try buffer.lines([UInt8](repeating: 0x20, count: 2 << 20)) }
    }
}
