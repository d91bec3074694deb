import Bytes
import CTSS2
import Crypto
import TPM

/// TSS structures as bytes and back. C unions and fixed arrays are awkward and easy to misread in Swift; bytes in the
/// TPM's own form (TPM 2.0 Part 2) are neither, so structures are built and read that way.
enum Marshalling {
    typealias Marshal<T> = (UnsafePointer<T>?, UnsafeMutablePointer<UInt8>?, Int, UnsafeMutablePointer<Int>?) -> TSS2_RC
    typealias Unmarshal<T> = (UnsafePointer<UInt8>?, Int, UnsafeMutablePointer<Int>?, UnsafeMutablePointer<T>?) ->
        TSS2_RC

    /// `value` in the TPM's form.
    static func bytes<T>(
        _ value: UnsafePointer<T>, _ operation: String, _ marshal: Marshal<T>
    ) throws(TPMDeviceError) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: MemoryLayout<T>.size)
        var count = 0
        try TPMDeviceError.check(unsafe marshal(value, &buffer, buffer.count, &count), operation)
        return Array(buffer.prefix(count))
    }

    /// The structure that `bytes` hold, into `value`.
    static func read<T>(
        _ bytes: [UInt8], into value: inout T, _ operation: String, _ unmarshal: Unmarshal<T>
    ) throws(TPMDeviceError) {
        var count = 0
        let code = unsafe unmarshal(bytes, bytes.count, &count, &value)
        try TPMDeviceError.check(code, operation)
        guard count == bytes.count else { throw TPMDeviceError(operation, "trailing bytes") }
    }

    /// TPML_PCR_SELECTION.
    static func selection(_ selections: [PCRSelection]) throws(TPMDeviceError) -> TPML_PCR_SELECTION {
        var writer = ByteWriter()
        writer.be(UInt32(clamping: selections.count))
        for selection in selections {
            var bitmap: [UInt8] = [0, 0, 0]
            for index in selection.indices where PCRBank.indices.contains(index) {
                bitmap[index / 8] |= 1 << UInt8(index % 8)
            }
            writer.be(algorithm(selection.hash))
            writer.u8(3)
            writer.append(bitmap)
        }
        var list = TPML_PCR_SELECTION()
        try unsafe read(writer.bytes, into: &list, "TPML_PCR_SELECTION") {
            unsafe Tss2_MU_TPML_PCR_SELECTION_Unmarshal($0, $1, $2, $3)
        }
        return list
    }

    /// The banks of a TPML_PCR_SELECTION, each with the registers chosen; banks of algorithms that Nacre does not know are
    /// left out, as are those without a register.
    static func selections(_ list: UnsafePointer<TPML_PCR_SELECTION>) throws(TPMDeviceError) -> [PCRSelection] {
        let operation = "TPML_PCR_SELECTION"
        let bytes = try unsafe bytes(list, operation) {
            unsafe Tss2_MU_TPML_PCR_SELECTION_Marshal($0, $1, $2, $3)
        }
        do {
            var reader = ByteReader(bytes)
            var found: [PCRSelection] = []
            for _ in 0..<min(16, try reader.be(UInt32.self, "count")) {
                let algorithm = try reader.be(UInt16.self, "hash")
                let bitmap = try reader.take(Int(try reader.u8("sizeofSelect")), "pcrSelect")
                let indices = PCRBank.indices.filter { index in
                    index / 8 < bitmap.count && bitmap[index / 8] >> UInt8(index % 8) & 1 == 1
                }
                if let hash = hash(algorithm), !indices.isEmpty {
                    found.append(PCRSelection(hash: hash, indices: indices))
                }
            }
            return found
        } catch { throw TPMDeviceError(operation, "\(error)") }
    }

    /// TPM_ALG_ID (TCG Algorithm Registry).
    static func algorithm(_ hash: HashAlgorithm) -> UInt16 {
        switch hash {
        case .sha1: 0x0004
        case .sha256: 0x000B
        case .sha384: 0x000C
        case .sha512: 0x000D
        }
    }

    static func hash(_ algorithm: UInt16) -> HashAlgorithm? {
        HashAlgorithm.allCases.first { Self.algorithm($0) == algorithm }
    }
}
