# Evaluates every fixture and the reference of the options at once: one Nix for all cases of `nixos::`.
{
  lib ? import ./lib.nix,
}:
let
  modules = ../../nixos-modules;
  # As much of a package set as the modules ask for: nothing is built.
  package = name: {
    type = "derivation";
    inherit name;
    outPath = "/nix/store/00000000000000000000000000000000-${name}";
  };
  pkgs = {
    callPackage = _: _: { keys-agent = package "keys-agent"; };
    writeText = name: text: package name // { inherit text; };
  };

  evaluate =
    module:
    lib.evalModules {
      modules = [
        ./host.nix
        { networking.hostName = lib.mkDefault "pigeon"; }
        modules
        module
      ];
      specialArgs = { inherit pkgs; };
    };

  said =
    module:
    let
      inherit (evaluate module) config;
    in
    {
      inherit (config.services.keys) manifest;
      # Sorted, as the order of definitions is not promised.
      refused = builtins.sort builtins.lessThan (
        map (one: one.message) (lib.filter (one: !one.assertion) config.assertions)
      );
      items = builtins.mapAttrs (_: item: { inherit (item) path unit links; }) config.services.keys.items;
      units = builtins.mapAttrs (_: unit: {
        inherit (unit) text;
        wantedBy = unit.wantedBy or [ ];
      }) config.systemd.units;
      activation = config.system.activationScripts;
      tmpfiles = config.systemd.tmpfiles.settings;
      filesystems = config.boot.specialFileSystems;
      users = config.users.users;
      groups = builtins.attrNames config.users.groups;
      sudo = config.security.sudo.extraConfig;
      etc = config.environment.etc;
      services = config.systemd.services;
      packages = map toString config.environment.systemPackages;
      uses = config.lab.uses;
    };

  # Whether a module evaluates at all.
  evaluates = module: (builtins.tryEval (builtins.deepSeq (said module) true)).success;

  fixtures = builtins.attrNames (builtins.readDir ./fixtures);
  named = lib.filter (lib.hasSuffix ".nix") fixtures;
in
{
  fixtures = builtins.listToAttrs (
    map (file: lib.nameValuePair (lib.removeSuffix ".nix" file) (said (./fixtures + "/${file}"))) named
  );
  evaluate = builtins.mapAttrs (_: evaluates) (import ./broken.nix);
  options = import ./reference.nix {
    inherit lib;
    inherit
      (lib.evalModules {
        modules = [
          ./host.nix
          modules
          (modules + "/deployment.nix")
          (modules + "/sops.nix")
          (modules + "/age.nix")
        ];
        specialArgs = { inherit pkgs; };
      })
      options
      ;
  };
  kinds =
    (import (modules + "/source.nix") {
      inherit lib;
      root = null;
    }).kinds;
}
