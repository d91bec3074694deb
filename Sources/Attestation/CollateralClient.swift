import Bytes
import SEVSNP
import TDX

/// Gets collateral: from an offline bundle, from the cache on disk, and only then through the caller's `fetch`.
///
/// Without `fetch` nothing is ever asked of a network. Everything is verified at the given time before it is kept or
/// handed out, wherever it came from.
public struct CollateralClient: Sendable {
    /// What a server answered.
    public struct Answer: Sendable {
        /// By name, in any case.
        public let headers: [String: String]
        public let body: [UInt8]

        public init(headers: [String: String] = [:], body: [UInt8]) {
            self.headers = headers
            self.body = body
        }

        func header(_ name: String) throws(Finding) -> String {
            let values = headers.filter { $0.key.lowercased() == name.lowercased() }.map(\.value)
            guard values.count == 1, let value = values.first else {
                throw Finding(
                    "collateral-answer", claim: name, expected: "one header", actual: "\(values.count)",
                    source: "Intel PCS v4")
            }
            return value
        }
    }

    /// Gets one HTTPS URL; throws for anything but an answer of status 200.
    public typealias Fetch = @Sendable (_ url: String) throws -> Answer

    private let bundle: CollateralBundle
    private let cache: CollateralCache?
    private let verifier: QuoteVerifier
    private let fetch: Fetch?

    public init(
        bundle: CollateralBundle = CollateralBundle(), cache: CollateralCache? = nil,
        verifier: QuoteVerifier = QuoteVerifier(cache: VerificationCache(capacity: 1)), fetch: Fetch? = nil
    ) {
        self.bundle = bundle
        self.cache = cache
        self.verifier = verifier
        self.fetch = fetch
    }

    /// Collateral for `quote`. Errors: `collateral` when nobody has it; else the family of what did not verify.
    public func collateral(
        for quote: Quote, update: ProvisioningService.Update = .standard, at time: Instant
    ) throws(Finding) -> CollateralItem {
        let source = try quote.collateralSource()
        return try item(CollateralItem.intelKey(source), at: time) { client throws(Finding) in
            try client.intel(source, update)
        }
    }

    /// The VCEK that signed `report`. Errors: as above; `collateral-vlek` for a report by another kind of key.
    ///
    /// - Parameter product: needed for reports of version 2, which do not name it.
    public func vcek(
        for report: AttestationReport, product given: Product? = nil, at time: Instant
    ) throws(Finding) -> CollateralItem {
        guard let product = report.processor?.product ?? given,
            let url = KeyDistributionService.vcekURL(for: report, product: product),
            let tcb = try? TCBVersion(report.reportedTCB, product: product, "report.reported_tcb")
        else {
            throw Finding(
                "collateral-vlek", claim: "vek", expected: "a report by a VCEK of a known product",
                actual: "another", next: "take the certificate from the evidence")
        }
        let key = CollateralItem.vcekKey(product, hardwareID: report.chipID, tcb: tcb)
        return try item(key, at: time) { client throws(Finding) in .endorsement(try client.get(url).body) }
    }

    /// The revocation list of a product's ARK.
    public func revocationList(
        _ product: Product, _ kind: EndorsementKey.Kind, at time: Instant
    ) throws(Finding) -> CollateralItem {
        let url = KeyDistributionService.revocationListURL(product, kind)
        return try item(CollateralItem.key("crl", product, kind), at: time) { client throws(Finding) in
            .revocationList(product, kind, try client.get(url).body)
        }
    }

    /// ASK or ASVK and ARK of a product.
    public func chain(
        _ product: Product, _ kind: EndorsementKey.Kind, at time: Instant
    ) throws(Finding) -> CollateralItem {
        let url = KeyDistributionService.chainURL(product, kind)
        return try item(CollateralItem.key("chain", product, kind), at: time) { client throws(Finding) in
            .chain(product, kind, try client.get(url).body)
        }
    }

    private func item(
        _ key: String, at time: Instant, fetched: (CollateralClient) throws(Finding) -> CollateralItem
    ) throws(Finding) -> CollateralItem {
        // A bundle that the user names is an answer, good or bad; a cache is only a shortcut.
        if let item = bundle.items[key] {
            _ = try item.verify(intel: verifier, at: time)
            return item
        }
        if let item = cache?.load(key), (try? item.verify(intel: verifier, at: time)) != nil { return item }
        guard fetch != nil else {
            throw Finding(
                "collateral-missing", claim: key, expected: "in the bundle or the cache", actual: "not there",
                next: "fetch it while online, or give a bundle that holds it")
        }
        let item = try fetched(self)
        _ = try item.verify(intel: verifier, at: time)
        guard try item.key() == key else {
            throw Finding("collateral-answer", claim: key, expected: key, actual: try item.key())
        }
        try cache?.store(item)
        return item
    }

    private func get(_ url: String) throws(Finding) -> Answer {
        guard let fetch else { throw Finding("collateral-missing", claim: url) }
        do {
            let answer = try fetch(url)
            guard answer.body.count <= Collateral.maximumSize else {
                throw Finding("collateral-answer", claim: url, actual: "\(answer.body.count) bytes")
            }
            return answer
        } catch let finding as Finding {
            throw finding
        } catch {
            throw Finding(
                "collateral-unreachable", claim: url, expected: "an answer", actual: "\(error)",
                next: "try again, or give a bundle")
        }
    }

    /// The four answers of Intel's service put together as one document.
    private func intel(
        _ source: CollateralSource, _ update: ProvisioningService.Update
    ) throws(Finding) -> CollateralItem {
        let tcb = try get(ProvisioningService.tcbInfoURL(fmspc: source.fmspc, update: update))
        let qe = try get(ProvisioningService.qeIdentityURL(update: update))
        let list = try get(ProvisioningService.pckCRLURL(source.authority))
        let rootList = try get(ProvisioningService.rootCRLURL)
        let tcbChain = try tcb.header(ProvisioningService.tcbInfoChainHeader)
        let qeChain = try qe.header(ProvisioningService.qeIdentityChainHeader)
        let listChain = try list.header(ProvisioningService.pckCRLChainHeader)
        do {
            let (tcbInfo, tcbSignature) = try ProvisioningService.signedObject(tcb.body, key: "tcbInfo")
            let (identity, qeSignature) = try ProvisioningService.signedObject(qe.body, key: "enclaveIdentity")
            let collateral = Collateral(
                pckCRLIssuerChain: try ProvisioningService.issuerChain(header: listChain), rootCRL: rootList.body,
                pckCRL: list.body, tcbInfoIssuerChain: try ProvisioningService.issuerChain(header: tcbChain),
                tcbInfo: tcbInfo, tcbInfoSignature: tcbSignature,
                qeIdentityIssuerChain: try ProvisioningService.issuerChain(header: qeChain), qeIdentity: identity,
                qeIdentitySignature: qeSignature)
            return .intel(source, collateral)
        } catch {
            throw error.finding
        }
    }
}
