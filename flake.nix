{
  description = "Sends secrets to hosts that must never have them on disk";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      each = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
      # The module of a surface, with the agent that this flake builds.
      module =
        file:
        { lib, pkgs, ... }:
        {
          imports = [ file ];
          services.keys.agent.package = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.keys-agent;
        };
    in
    {
      packages = each (
        pkgs:
        let
          packages = pkgs.callPackage ./nixos-modules/packages.nix { };
        in
        {
          inherit (packages) keys keys-agent;
          default = packages.keys;
        }
      );

      overlays.default = final: _: {
        inherit (final.callPackage ./nixos-modules/packages.nix { }) keys keys-agent;
      };

      nixosModules = {
        default = module ./nixos-modules;
        deployment = module ./nixos-modules/deployment.nix;
        # For Colmena, which declares `deployment.keys` itself.
        colmena = module ./nixos-modules/colmena.nix;
        sops = module ./nixos-modules/sops.nix;
        age = module ./nixos-modules/age.nix;
      };

      # They take virtual machines: docs/how-to/nixos.md says what is tried without.
      checks = each (pkgs: import ./tests/nixos/vm.nix { inherit self pkgs; });

      devShells = each (pkgs: {
        default = pkgs.mkShell {
          packages = [
            pkgs.cargo
            pkgs.clippy
            pkgs.pkg-config
            pkgs.rustc
            pkgs.rustfmt
            pkgs.systemd
          ];
        };
      });
    };
}
