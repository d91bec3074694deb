import Bytes

extension PEImage {
    /// The bytes that an Authenticode digest covers, in the order in which firmware hashes them.
    ///
    /// Microsoft's "Windows Authenticode Portable Executable Signature Format", as edk2 measures it into PCR 4: headers
    /// without CheckSum and certificate directory entry, sections by file offset, then whatever file data is left
    /// before the certificate table. Nothing is padded to eight bytes.
    public func authenticodeRegions() throws(ParseError) -> [Range<Int>] {
        var regions = [0..<checksumOffset]
        if let entry = certificateEntryOffset {
            regions += [checksumOffset + 4..<entry, entry + 8..<sizeOfHeaders]
        } else {
            regions.append(checksumOffset + 4..<sizeOfHeaders)
        }
        var hashed = sizeOfHeaders
        for section in sections.filter({ $0.rawSize > 0 }).sorted(by: { $0.rawOffset < $1.rawOffset }) {
            regions.append(section.rawOffset..<section.rawOffset + section.rawSize)
            hashed += section.rawSize
        }
        let end = source.count - (certificates?.count ?? 0)
        guard hashed <= end else {
            throw ParseError(
                "range", field: "sections", offset: hashed, "sections overlap: \(hashed) bytes in a file of \(end)")
        }
        if hashed < end { regions.append(hashed..<end) }
        return regions.filter { !$0.isEmpty }
    }

    /// The same bytes as one source.
    public func authenticodeContents() throws(ParseError) -> ByteSource {
        var parts: [ByteSource] = []
        for region in try authenticodeRegions() {
            parts.append(try source.slice(at: region.lowerBound, count: region.count, "Authenticode region"))
        }
        return ByteSource(joining: parts)
    }
}
