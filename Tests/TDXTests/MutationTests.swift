import Bytes
import TestKit
import Testing

@testable import TDX

/// Damaged evidence: nothing that differs from the original is accepted, and nothing crashes.
@Suite struct MutationTests {
    /// Cases of the index whose quote is authentic, so that only damage can make it fail.
    static let authentic: [Vectors.Case] = Vectors.cases("tdx").filter {
        $0.expect["authentic"]?.bool == true && $0.inputs["root"]?.string == "roots/intel/sgx_root_ca.der"
    }

    @Test(arguments: authentic)
    func noMutationOfAQuoteVerifies(_ vector: Vectors.Case) throws {
        let original = try vector.read("quote")
        let collateral = try vector.read("collateral")
        let verifier = QuoteVerifier(cache: VerificationCache())
        _ = try verifier.verify(original, collateral: collateral, at: vector.time)
        var generator = SeededGenerator(seed: 0x7D10)
        for round in 0..<mutations(quick: 400) {
            let damaged = mutate(original, with: &generator)
            guard damaged != original else { continue }
            #expect(throws: Finding.self, "round \(round)") {
                try verifier.verify(damaged, collateral: collateral, at: vector.time)
            }
        }
    }

    /// Collateral is JSON: other white space or the case of hex digits change no meaning, so a damaged document may only
    /// pass when it reads as the same collateral.
    @Test(arguments: authentic)
    func noMutationOfCollateralVerifies(_ vector: Vectors.Case) throws {
        let quote = try vector.read("quote")
        let original = try vector.read("collateral")
        let meaning = try Collateral(parsing: original)
        let verifier = QuoteVerifier(cache: VerificationCache())
        _ = try verifier.verify(quote, collateral: original, at: vector.time)
        var generator = SeededGenerator(seed: 0xC011)
        for round in 0..<(mutations(quick: 400) / 8) {
            let damaged = mutate(original, with: &generator)
            guard let read = try? Collateral(parsing: damaged), read != meaning else { continue }
            #expect(throws: Finding.self, "round \(round)") {
                try verifier.verify(quote, collateral: damaged, at: vector.time)
            }
        }
    }
}
