import Bytes
import CTSS2
import Crypto
import TPM

extension TPMDevice {
    /// The NV indices in `range` that are defined (TPM2_GetCapability, TPM_CAP_HANDLES), ascending.
    func nvIndices(_ range: ClosedRange<UInt32>) throws(TPMDeviceError) -> [UInt32] {
        let operation = "TPM2_GetCapability"
        var more = TPMI_YES_NO(0)
        var output: UnsafeMutablePointer<TPMS_CAPABILITY_DATA>?
        try TPMDeviceError.check(
            unsafe Esys_GetCapability(
                context, Self.none, Self.none, Self.none, 1, range.lowerBound, 254, &more, &output), operation)
        defer { unsafe Esys_Free(output) }
        guard let output = unsafe output, unsafe output.pointee.capability == 1 else {
            throw TPMDeviceError(operation, "no answer")
        }
        let bytes = try unsafe withUnsafePointer(to: &output.pointee.data.handles) { (list) throws(TPMDeviceError) in
            try unsafe Marshalling.bytes(list, operation) {
                unsafe Tss2_MU_TPML_HANDLE_Marshal($0, $1, $2, $3)
            }
        }
        do {
            var reader = ByteReader(bytes)
            var found: [UInt32] = []
            for _ in 0..<min(254, try reader.be(UInt32.self, "count")) {
                let handle = try reader.be(UInt32.self, "handle")
                if range.contains(handle) { found.append(handle) }
            }
            return found
        } catch { throw TPMDeviceError(operation, "\(error)") }
    }

    /// What was written to an NV index of at most `limit` bytes that its own, empty, password or the owner may read.
    /// - Returns: `nil` for an index that was never written, or that neither may read.
    func readNV(_ index: UInt32, limit: Int) throws(TPMDeviceError) -> [UInt8]? {
        let operation = "TPM2_NV_Read 0x\(String(index, radix: 16))"
        var handle = ESYS_TR(0)
        try TPMDeviceError.check(
            unsafe Esys_TR_FromTPMPublic(context, index, Self.none, Self.none, Self.none, &handle), operation)
        defer { _ = unsafe Esys_TR_Close(context, &handle) }
        var output: UnsafeMutablePointer<TPM2B_NV_PUBLIC>?
        try TPMDeviceError.check(
            unsafe Esys_NV_ReadPublic(context, handle, Self.none, Self.none, Self.none, &output, nil), operation)
        defer { unsafe Esys_Free(output) }
        guard let output = unsafe output else { throw TPMDeviceError(operation, "no answer") }
        let (attributes, size) = unsafe (output.pointee.nvPublic.attributes, Int(output.pointee.nvPublic.dataSize))
        // TPMA_NV (TPM 2.0 Part 2 §13.4): OWNERREAD, AUTHREAD, WRITTEN.
        let (ownerRead, authRead, written) = (UInt32(1) << 17, UInt32(1) << 18, UInt32(1) << 29)
        guard attributes & written != 0, attributes & (ownerRead | authRead) != 0 else { return nil }
        guard size <= limit else { throw TPMDeviceError(operation, "\(size) bytes, at most \(limit) are read") }
        let authority = attributes & authRead != 0 ? handle : ESYS_TR(ESYS_TR_RH_OWNER)
        var bytes: [UInt8] = []
        while bytes.count < size {
            // Every TPM for PCs moves 512 bytes at once.
            let part = min(512, size - bytes.count)
            var data: UnsafeMutablePointer<TPM2B_MAX_NV_BUFFER>?
            try TPMDeviceError.check(
                unsafe Esys_NV_Read(
                    context, authority, handle, ESYS_TR(ESYS_TR_PASSWORD), Self.none, Self.none, UInt16(part),
                    UInt16(bytes.count), &data), operation)
            defer { unsafe Esys_Free(data) }
            guard let data = unsafe data else { throw TPMDeviceError(operation, "no answer") }
            let read = try unsafe Marshalling.bytes(data, operation) {
                unsafe Tss2_MU_TPM2B_MAX_NV_BUFFER_Marshal($0, $1, $2, $3)
            }
            guard read.count == part + 2 else { throw TPMDeviceError(operation, "\(read.count - 2) bytes of \(part)") }
            bytes += read.dropFirst(2)
        }
        return bytes
    }
}
