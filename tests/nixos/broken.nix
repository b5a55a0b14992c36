# Modules that are errors of Nix, or with one change would be: by what they are.
let
  keys = items: { services.keys = { inherit items; }; };
  deployment = keys: {
    imports = [ ../../nixos-modules/deployment.nix ];
    deployment = { inherit keys; };
  };
in
{
  right = keys { a.source.prompt = "A"; };
  an_option_that_is_not_there = keys {
    a = {
      source.prompt = "A";
      restart_units = [ ];
    };
  };
  a_path_that_is_set = keys {
    a = {
      source.prompt = "A";
      path = "/etc/a";
    };
  };
  a_mode_that_is_a_number = keys {
    a = {
      source.prompt = "A";
      mode = 400;
    };
  };
  a_plain_text = deployment { a = "hunter2"; };
  a_sops_format = {
    imports = [ ../../nixos-modules/sops.nix ];
    sops.secrets.a = {
      sopsFile = ./fixtures/secrets/main.yaml;
      format = "toml";
    };
  };
  an_age_secret_without_a_file = {
    imports = [ ../../nixos-modules/age.nix ];
    age.secrets.a = { };
  };
}
