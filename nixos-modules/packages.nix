# The packages: `keys` for the operator's machine and `keys-agent` for hosts, built from this tree.
{
  lib,
  rustPlatform,
  pkg-config,
  systemd,
}:
let
  inherit ((builtins.fromTOML (builtins.readFile ../Cargo.toml)).workspace.package) version;

  # What is built, so that a change to the documentation builds nothing anew.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../clippy.toml
      ../agent
      ../docs
      ./import.nix
      ./network.nix
      ../pusher
      ../tests/Cargo.toml
      ../tests/src
      ../tests/cases
      ../tests/benches
    ];
  };

  crate =
    name: about: package:
    rustPlatform.buildRustPackage (
      {
        pname = name;
        inherit version src;
        cargoLock.lockFile = ../Cargo.lock;
        # The cases want root and the lab: tests/run.
        doCheck = false;
        meta = {
          description = about;
          license = lib.licenses.mit;
          platforms = lib.platforms.linux;
          mainProgram = name;
        };
      }
      // package
    );
in
{
  keys = crate "keys" "Sends secrets to hosts that must never have them on disk" {
    cargoBuildFlags = [ "--package=keys-pusher" ];
  };

  keys-agent = crate "keys-agent" "Writes the keys that are sent to a host" {
    cargoBuildFlags = [ "--package=keys-agent" ];
    buildType = "agent";
    nativeBuildInputs = [ pkg-config ];
    buildInputs = [ systemd ];
  };
}
