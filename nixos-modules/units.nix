# The units of this host's keys, and what the agent knows of them while there are none: elsewhere a generator makes these
# units, from a file that the agent keeps.
{ config, lib, ... }:
let
  inherit (config.services.keys) agent;
  items = builtins.attrValues config.services.keys.items;

  # The one text of key units, as the generator has it. A switch leaves them alone: what waits for a key goes on waiting,
  # and what has it is not restarted for a new agent.
  unitOf =
    item:
    builtins.replaceStrings
      [
        "@KEY@"
        "/usr/local/bin/keys-agent"
      ]
      [
        item.name
        "${agent.package}/bin/keys-agent"
      ]
      (builtins.readFile ../agent/systemd/key.service.in)
    + "\n[Unit]\nX-RestartIfChanged=false\n";

  tells = how: map (unit: { inherit unit how; });
  known = item: {
    inherit (item) name;
    units =
      tells "restart" item.restartUnits
      ++ tells "reload" item.reloadUnits
      ++ tells "start" item.startUnits
      ++ tells "stop" item.stopUnits
      ++ lib.mapAttrsToList (unit: how: { inherit unit how; }) item.signalUnits;
  };

  # Both ends: the service wants its keys, and they start it. Nothing else does, so that no target waits for a key.
  needs = builtins.groupBy (need: need.service) (
    lib.concatMap (item: map (service: { inherit service item; }) item.neededBy) items
  );
  dependent =
    service: needs:
    let
      units = map (need: need.item.unit) needs;
    in
    lib.nameValuePair (lib.removeSuffix ".service" service) {
      after = units;
      requires = units;
      wantedBy = lib.mkForce units;
    };
in
{
  config = {
    systemd.services = lib.mapAttrs' dependent needs;

    systemd.units = lib.mkIf agent.enable (
      builtins.listToAttrs (map (item: lib.nameValuePair item.unit { text = unitOf item; }) items)
      // {
        # Starts the units of many keys by one call.
        "keys-landed.target".text = ''
          [Unit]
          Description=Units of the keys that are there
          DefaultDependencies=no
          ${lib.concatMapStringsSep "\n" (item: "Wants=${item.unit}") items}
        '';
      }
    );

    environment.etc = lib.mkIf agent.enable {
      "keys/host.json".text = builtins.toJSON {
        format = 1;
        keys = map known items;
      };
    };
  };
}
