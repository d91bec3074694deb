import Glibc
import TestKit
import Testing

/// What `make image` left: the command line, the production image, the key that signed its manifest.
enum Built {
    static let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

    /// The command line under test.
    static let nacre = path("NACRE", "build/bin/nacre")
    /// Folder of the production image.
    static let image = path("NACRE_IMAGE", "build/image")
    static let debugImage = path("NACRE_IMAGE_DEBUG", "build/image-debug")
    static let simulatedImage = path("NACRE_IMAGE_SIMULATED", "build/image-simulated")
    static let simulatedTDXImage = path("NACRE_IMAGE_SIMULATED_TDX", "build/image-simulated-tdx")
    /// Keys of the simulated TEE inside both.
    static let simulatedKeys = path("NACRE_SIMULATED_KEYS", "build/simulated/keys")
    static let trustRoot = path("NACRE_TRUST_ROOT", "signing/development.key.trustroot.json")
    static let key = path("NACRE_KEY", "signing/development.key")
    /// The program inside the image, to find its blocks on the disk.
    static let bootstrapper = path("NACRE_BOOTSTRAPPER", "build/bin/bootstrapper")

    static let disk = image + "/nacre.raw"
    static let manifest = image + "/manifest.json"
    static let bundle = image + "/manifest.json.sigstore.json"
    static let firmware = image + "/firmware"

    /// What keeps the suite from running here, one entry each.
    static let missing: [String] = {
        let files = [nacre, disk, manifest, bundle, image + "/measurements.json", trustRoot]
        var missing = files.filter { path in unsafe access(path, R_OK) != 0 }
        missing += ["qemu-system-x86_64", "swtpm"].filter { Tool.find($0) == nil }
        return missing
    }()
    /// `NACRE_REQUIRE_BOOT=1`: nothing may be missing.
    static let isRequired = variable("NACRE_REQUIRE_BOOT") == "1"
    /// `NACRE_BOOT=all`: the long cases too (`make test-boot`).
    static let runsAll = variable("NACRE_BOOT") == "all"

    static let whole = ConditionTrait.enabled("no image was built here, or no QEMU: see `make image`, `make setup`") {
        missing.isEmpty
    }
    static let long = ConditionTrait.enabled("a long case: NACRE_BOOT=all, or `make test-boot`") {
        missing.isEmpty && runsAll
    }

    static let cluster = ConditionTrait.enabled("about 20 minutes of Kubernetes under emulation: `make test-cluster`") {
        missing.isEmpty && variable("NACRE_CLUSTER") == "1"
    }

    /// Runs where the image in `directory` was built, and where all long cases are wanted.
    static func ifBuilt(_ directory: String) -> ConditionTrait {
        .enabled("no \(directory): `make image-simulated`, `make image-simulated-tdx`") {
            let isThere = unsafe access(directory + "/nacre.raw", R_OK) == 0
            return missing.isEmpty && (runsAll || isThere)
        }
    }

    private static func variable(_ name: String) -> String? {
        unsafe getenv(name).map { unsafe String(cString: $0) }
    }

    private static func path(_ name: String, _ fallback: String) -> String {
        let value = variable(name) ?? fallback
        return value.hasPrefix("/") ? value : "\(root)/\(value)"
    }
}

/// Everything that boots real images, one machine after the other: two would only share the processors.
@Suite(.serialized) struct IntegrationTests {
    @Test func `the image and the programs that boot it are here`() {
        guard !Built.missing.isEmpty else { return }
        print("skipped: no boot tests, for want of \(Built.missing.joined(separator: ", "))")
        #expect(!Built.isRequired, "NACRE_REQUIRE_BOOT=1, and missing: \(Built.missing)")
    }
}
