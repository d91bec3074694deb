import Bytes
import Crypto
import UnifiedKernelImage

extension SecureBootState {
    /// The authority event of a signed image: the entry of `db` whose certificate its signature leads to, as one
    /// EFI_SIGNATURE_DATA (TCG PC Client Platform Firmware Profile 1.06 §3.3.4.8).
    ///
    /// The signature itself is not verified: the prediction is of a boot that succeeds.
    ///
    /// - Returns: `nil` where the image is not signed or no certificate of `db` fits.
    func authorityEvent(for image: PEImage) throws(ParseError) -> PredictedEvent? {
        guard let range = image.certificates else { return nil }
        let table = try image.source.read(at: range.lowerBound, count: range.count, "certificate table")
        let signers = Self.signatures(table).flatMap(Self.certificates)
        for entry in try SignatureList.entries(allowed) where entry.type == SignatureList.x509 {
            guard let authority = try? Certificate(der: entry.data) else { continue }
            let fits = signers.contains { signer in
                signer == entry.data
                    || (try? Certificate(der: signer)).map { (try? $0.verify(issuedBy: authority)) != nil } == true
            }
            guard fits else { continue }
            return PredictedEvent(
                .tpm(7), .variableAuthority, "certificate in db that the UKI's signature leads to",
                Self.variableData("db", Self.databaseGUID, entry.owner.bytes + entry.data))
        }
        return nil
    }

    /// The PKCS #7 blobs of an attribute certificate table (UEFI 2.10 §32.2.2), aligned to eight bytes.
    private static func signatures(_ table: [UInt8]) -> [[UInt8]] {
        var reader = ByteReader(table)
        var blobs: [[UInt8]] = []
        while reader.remaining >= 8 {
            guard let length = try? reader.le(UInt32.self, "dwLength"), let _ = try? reader.skip(2, "wRevision"),
                let type = try? reader.le(UInt16.self, "wCertificateType"), length >= 8,
                let blob = try? reader.take(Int(length) - 8, "bCertificate")
            else { break }
            if type == 2 { blobs.append(blob) }
            let excess = Int(length) % 8
            if excess != 0, (try? reader.skip(min(8 - excess, reader.remaining), "padding")) == nil { break }
        }
        return blobs
    }

    /// The certificates in a PKCS #7 SignedData (RFC 2315 §9.1), each as DER; none where it is not of that form.
    private static func certificates(_ blob: [UInt8]) -> [[UInt8]] {
        var reader = ByteReader(blob)
        // ContentInfo ::= SEQUENCE { contentType, [0] SEQUENCE { version, digests, contentInfo, [0] certificates … } }
        // What follows it is padding.
        guard let outer = try? DER.element(&reader, "ContentInfo"),
            let content = try? outer.children("ContentInfo"), content.count >= 2,
            let signed = try? content[1].children("SignedData").first,
            let fields = try? signed.children("SignedData"),
            let set = fields.first(where: { $0.tag == 0xA0 }),
            let certificates = try? set.children("certificates")
        else { return [] }
        return certificates.filter { $0.tag == 0x30 }.map { DER.element(0x30, $0.content) }
    }
}

/// EFI_SIGNATURE_LISTs (UEFI 2.10 §32.4.1).
enum SignatureList {
    static let x509: GUID = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072"

    struct Entry {
        let type: GUID
        let owner: GUID
        let data: [UInt8]
    }

    static func entries(_ bytes: [UInt8]) throws(ParseError) -> [Entry] {
        var reader = ByteReader(bytes)
        var entries: [Entry] = []
        while !reader.isAtEnd {
            let start = reader.offset
            let type = try GUID(&reader, "SignatureType")
            let listSize = Int(try reader.le(UInt32.self, "SignatureListSize"))
            let headerSize = Int(try reader.le(UInt32.self, "SignatureHeaderSize"))
            let size = Int(try reader.le(UInt32.self, "SignatureSize"))
            guard listSize >= 28, headerSize <= listSize - 28, size > 16, (listSize - 28 - headerSize) % size == 0
            else {
                throw ParseError("length", field: "SignatureListSize", offset: start + 16, "\(listSize) bytes")
            }
            try reader.skip(headerSize, "SignatureHeader")
            for _ in 0..<(listSize - 28 - headerSize) / size {
                let owner = try GUID(&reader, "SignatureOwner")
                entries.append(Entry(type: type, owner: owner, data: try reader.take(size - 16, "SignatureData")))
            }
        }
        return entries
    }
}
