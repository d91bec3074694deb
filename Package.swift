// swift-tools-version: 6.2
import PackageDescription

// One array of settings for every target: Swift 6 mode, every unsafe expression marked, warnings are errors.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
]

/// A room of the design: `Sources/<name>` with, where `tested`, `Tests/<name>Tests`.
func room(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency] = [], exclude: [String] = []) -> Target {
    .testTarget(
        name: name + "Tests",
        dependencies: [.byName(name: name), "TestKit"] + dependencies,
        exclude: exclude,
        swiftSettings: strict)
}

let package = Package(
    name: "nacre",
    products: [
        .executable(name: "nacre", targets: ["nacre"]),
        .executable(name: "bootstrapper", targets: ["bootstrapper"]),
        .executable(name: "verity-init", targets: ["verity-init"]),
        .executable(name: "nacre-bench", targets: ["bench"]),
        // Process 1 of the machine that the state disk is tested in; part of no image.
        .executable(name: "state-disk-test", targets: ["state-disk-test"]),
        // For tests only: nothing that is released links the room SimulatedTEE.
        .executable(name: "simulated-tee", targets: ["simulated-tee"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2")
    ],
    targets: [
        // System libraries: module maps and thin shims only.
        .systemLibrary(name: "CLinux"),
        .target(name: "CEarlyInit"),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl"),
        .systemLibrary(name: "CTSS2", pkgConfig: "tss2-esys"),
        .systemLibrary(name: "CSystemd", pkgConfig: "libsystemd"),
        .systemLibrary(name: "CCryptsetup", pkgConfig: "libcryptsetup"),

        // Rooms, lowest first; a room imports only rooms above it in this list.
        room("Bytes", []),
        room("Crypto", ["Bytes", "COpenSSL"]),
        room("HTTP", ["Bytes"]),
        room("Host", ["Bytes", "CLinux"]),
        room("GPT", ["Bytes"]),
        room("Linux", ["CLinux"]),
        room("MeasuredPhase", ["Bytes", "Linux", "CLinux"]),
        room("VerityRoot", ["Bytes"]),
        room("UnifiedKernelImage", ["Bytes"]),
        room("TPM", ["Bytes", "Crypto"]),
        room("TPMDevice", ["Bytes", "Crypto", "TPM", "CTSS2"]),
        room("SEVSNP", ["Bytes", "Crypto"]),
        room("TDX", ["Bytes", "Crypto"]),
        room("Measurement", ["Bytes", "Crypto", "GPT", "UnifiedKernelImage", "TPM"]),
        room("Manifest", ["Bytes", "Crypto", "Measurement"]),
        room("ImageBuild", ["Bytes", "Crypto", "Host", "Measurement", "Manifest"]),
        room(
            "Attestation",
            [
                "Bytes", "Crypto", "GPT", "UnifiedKernelImage", "TPM", "SEVSNP", "TDX", "Measurement", "Manifest",
                "Linux",
                "CLinux",
            ]),
        room("AttestedTLS", ["Bytes", "Crypto", "Linux", "CLinux"]),
        room("DiskFormat", ["Bytes", "Crypto"]),
        room("StateDisk", ["Bytes", "Crypto", "DiskFormat", "Host", "Linux", "CLinux", "CCryptsetup"]),
        room("Kubernetes", ["Bytes", "Crypto", "DiskFormat"]),
        room("KubernetesAPI", ["Bytes", "Crypto", "HTTP", "DiskFormat", "Kubernetes"]),
        room("Cluster", ["Bytes", "Crypto", "DiskFormat", "Kubernetes", "Manifest", "Attestation", "AttestedTLS"]),
        room(
            "NodeService",
            ["Bytes", "Crypto", "HTTP", "Linux", "MeasuredPhase", "TPM", "TPMDevice", "Attestation", "CLinux"]),
        room(
            "Provisioning",
            [
                "Bytes", "Host", "Crypto", "TPM", "Measurement", "Manifest", "Attestation", "Cluster", "DiskFormat",
                "Kubernetes", "CLinux",
            ]),

        // Executables.
        .executableTarget(
            name: "nacre",
            dependencies: [
                "Bytes", "Crypto", "HTTP", "UnifiedKernelImage", "TPM", "SEVSNP", "TDX", "Measurement", "Manifest",
                "Attestation", "AttestedTLS", "Cluster", "DiskFormat", "Host", "ImageBuild", "Kubernetes",
                "Provisioning",
                "CLinux", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "bootstrapper",
            dependencies: [
                "Bytes", "Crypto", "Linux", "TPMDevice", "Attestation", "AttestedTLS", "DiskFormat", "StateDisk",
                "Kubernetes", "KubernetesAPI", "Cluster", "NodeService",
                "CSystemd",
                "CLinux",
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "verity-init",
            dependencies: ["CEarlyInit", "Bytes", "VerityRoot", "MeasuredPhase", "Linux", "CLinux"],
            swiftSettings: strict),

        // Ratios against raw OpenSSL and other programs; the only target beside Crypto that sees COpenSSL, as baseline.
        .executableTarget(
            name: "bench",
            dependencies: [
                "Bytes", "Crypto", "COpenSSL", "SEVSNP", "TDX", "Manifest", "Attestation", "AttestedTLS", "DiskFormat",
                "Cluster", "Kubernetes", "Linux", "CLinux", "Host", "SyntheticNode",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),

        // A test product: a TEE that proves nothing, under a root of its own. `nacre` and `bootstrapper` never link it.
        room("SimulatedTEE", ["Bytes", "Crypto", "Linux", "CLinux", "TPM", "SEVSNP", "TDX"]),
        .executableTarget(
            name: "simulated-tee",
            dependencies: [
                "Bytes", "Crypto", "Linux", "TPM", "SEVSNP", "TDX", "SimulatedTEE", "CSystemd",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),

        // Tests: one folder per room. TestKit finds the vectors and runs the independent tools.
        .target(
            name: "TestKit", dependencies: ["Bytes", "Crypto", "SEVSNP", "CLinux", "SimulatedTEE"],
            path: "Tests/TestKit",
            swiftSettings: strict),
        .target(
            name: "SyntheticNode", dependencies: ["Bytes", "Crypto", "TPM", "Manifest", "Attestation"],
            path: "Tests/SyntheticNode", swiftSettings: strict),
        tests("Bytes"),
        tests("KubernetesAPI", ["Crypto", "HTTP", "DiskFormat", "Kubernetes", "Linux"]),
        tests("Crypto"),
        tests("HTTP"),
        tests("GPT"),
        tests("MeasuredPhase", ["Crypto", "Linux"]),
        tests("VerityRoot"),
        tests("UnifiedKernelImage"),
        tests("TPM", ["Crypto"]),
        tests("TPMDevice", ["Crypto", "TPM", "CTSS2SoftwareTPM"]),
        // Only tests talk to a software TPM: nothing that a node runs links this.
        .systemLibrary(name: "CTSS2SoftwareTPM", path: "Tests/CTSS2SoftwareTPM", pkgConfig: "tss2-tcti-swtpm"),
        tests("SEVSNP", ["Bytes", "Crypto"], exclude: ["Fixtures"]),
        tests("TDX", ["Bytes", "Crypto", "SimulatedTEE"], exclude: ["Fixtures"]),
        tests("Measurement", ["Crypto", "UnifiedKernelImage", "GPT", "TPM"]),
        tests("ImageBuild", ["Crypto", "Host", "Manifest", "SyntheticNode"]),
        tests(
            "SimulatedTEE",
            ["Bytes", "Crypto", "Linux", "TPM", "SEVSNP", "TDX", "Manifest", "Attestation", "SyntheticNode"]),
        tests("Manifest", ["Crypto", "Measurement", "SyntheticNode"]),
        tests("Attestation", ["Crypto", "Linux", "TPM", "SEVSNP", "TDX", "Measurement", "Manifest", "SyntheticNode"]),
        tests(
            "NodeService",
            ["Crypto", "HTTP", "Linux", "MeasuredPhase", "TPM", "TPMDevice", "Attestation", "CTSS2SoftwareTPM"]),
        tests("AttestedTLS", ["Crypto", "CLinux"]),
        tests("DiskFormat", ["Bytes", "Crypto"]),
        tests("StateDisk", ["Crypto", "DiskFormat"]),
        tests("Kubernetes", ["Bytes", "Crypto", "DiskFormat"]),
        .executableTarget(
            name: "state-disk-test", dependencies: ["Bytes", "Crypto", "DiskFormat", "Linux", "CLinux", "StateDisk"],
            path: "Tests/StateDiskGuest", swiftSettings: strict),
        tests(
            "Cluster",
            [
                "Crypto", "DiskFormat", "Kubernetes", "Manifest", "Attestation", "AttestedTLS", "NodeService",
                "TPMDevice", "CTSS2SoftwareTPM", "SyntheticNode",
            ]),
        tests(
            "Provisioning",
            ["Attestation", "Cluster", "Crypto", "DiskFormat", "Host", "Kubernetes", "Manifest", "SyntheticNode"]),
        .testTarget(
            name: "CLITests",
            dependencies: [
                "nacre", "Bytes", "Cluster", "Crypto", "HTTP", "Manifest", "Attestation", "SyntheticNode", "TestKit",
            ],
            swiftSettings: strict),
        // Boots the built image through the built command line.
        .testTarget(
            name: "IntegrationTests",
            dependencies: [
                "Bytes", "Cluster", "Crypto", "DiskFormat", "GPT", "Kubernetes", "Measurement", "Provisioning",
                "TestKit",
                "UnifiedKernelImage",
            ],
            swiftSettings: strict),
    ]
)

// Fuzzing needs libFuzzer's entry point in place of a program's own, so the target exists for `make fuzz` alone.
if Context.environment["NACRE_FUZZING"] != nil {
    package.products.append(.executable(name: "nacre-fuzz", targets: ["nacre-fuzz"]))
    package.targets.append(
        .executableTarget(
            name: "nacre-fuzz",
            dependencies: [
                "Bytes", "Crypto", "HTTP", "GPT", "VerityRoot", "UnifiedKernelImage", "TPM", "SEVSNP", "TDX",
                "Measurement", "Manifest", "Attestation", "AttestedTLS", "DiskFormat", "Kubernetes", "Cluster",
                "Provisioning", "SyntheticNode", "TestKit",
            ],
            path: "Tests/Fuzzing", swiftSettings: strict))
}
