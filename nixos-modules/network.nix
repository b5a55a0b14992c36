# The manifest of all hosts of a network: a function of `nixosConfigurations`, a Colmena hive, or any set of such machines.
# It stands alone: `keys` gives its text to `nix eval --apply`.
configurations:
let
  machines = configurations.nodes or configurations;
  uses = machine: machine ? config.services.keys.manifest;
  names = builtins.filter (name: uses machines.${name}) (builtins.attrNames machines);

  manifestOf =
    name:
    let
      inherit (machines.${name}.config.services) keys;
      failed = builtins.filter (check: !check.assertion) keys.checks;
    in
    if failed == [ ] then
      keys.manifest
    else
      throw "${name}: ${builtins.concatStringsSep "; " (map (check: check.message) failed)}";
  manifests = map manifestOf names;

  # What there is once in a manifest, so that all hosts say the same.
  shared =
    field:
    let
      said = builtins.filter (manifest: manifest ? ${field}) manifests;
      value = (builtins.head said).${field};
    in
    if said == [ ] then
      { }
    else if builtins.all (manifest: (manifest.${field} or value) == value) manifests then
      { ${field} = value; }
    else
      throw "services.keys.${field}: the hosts do not say the same";

  hosts = builtins.zipAttrsWith (
    host: found: if builtins.length found == 1 then builtins.head found else throw "two machines are the host ${host}"
  ) (map (manifest: manifest.hosts) manifests);
in
if names == [ ] then
  throw "no machine here imports the modules of keys"
else
  { inherit hosts; } // shared "id" // shared "vault" // shared "vaults" // shared "age" // shared "ssh"
