# The part of nixpkgs' `lib` that nixos-modules/ uses, written anew for the tests: nixpkgs cannot be had where they run.
#
# It follows the module system in what modules can tell: imports once per file, mkIf pushed down, priorities, merging by
# type, submodules, read-only options, options that are not there. It has no freeform types, no renaming and no positions
# of errors, and its types say less about what is wrong.
let
  inherit (builtins)
    all
    attrNames
    attrValues
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    functionArgs
    genericClosure
    head
    isAttrs
    isFunction
    isList
    isPath
    isString
    length
    listToAttrs
    mapAttrs
    stringLength
    substring
    tail
    ;

  ## lists, texts and sets

  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: values: if condition then values else [ ];
  optionalAttrs = condition: set: if condition then set else { };
  last = list: elemAt list (length list - 1);
  take = count: list: builtins.genList (elemAt list) (if count < length list then count else length list);
  count = test: list: length (filter test list);
  unique = foldl' (known: value: if elem value known then known else known ++ [ value ]) [ ];
  imap0 = f: list: builtins.genList (index: f index (elemAt list index)) (length list);
  stringToCharacters = text: builtins.genList (index: substring index 1 text) (stringLength text);
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  hasSuffix =
    suffix: text:
    stringLength suffix <= stringLength text
    && substring (stringLength text - stringLength suffix) (-1) text == suffix;
  hasInfix = part: text: builtins.replaceStrings [ part ] [ "" ] text != text;
  removePrefix = prefix: text: if hasPrefix prefix text then substring (stringLength prefix) (-1) text else text;
  removeSuffix =
    suffix: text: if hasSuffix suffix text then substring 0 (stringLength text - stringLength suffix) text else text;
  splitString = separator: text: filter isString (builtins.split (escapeRegex separator) text);
  escapeRegex = builtins.replaceStrings [ "." "+" "*" "?" "(" ")" "[" "]" "|" "^" "$" "\\" ] [ "\\." "\\+" "\\*" "\\?" "\\(" "\\)" "\\[" "\\]" "\\|" "\\^" "\\$" "\\\\" ];
  concatMapStringsSep = separator: f: list: concatStringsSep separator (map f list);
  filterAttrs = test: set: removeAttrs set (filter (name: !test name set.${name}) (attrNames set));
  nameValuePair = name: value: { inherit name value; };
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  mapAttrs' = f: set: listToAttrs (mapAttrsToList f set);
  genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
  recursiveUpdate =
    left: right:
    left
    // mapAttrs (
      name: value: if isAttrs value && isAttrs (left.${name} or null) then recursiveUpdate left.${name} value else value
    ) right;

  ## what a definition may be wrapped in

  isType = name: value: isAttrs value && value._type or null == name;
  mkOption = option: { _type = "option"; } // option;
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };

  # Down into the names of a set, so that a condition is asked only where a value is.
  pushDown =
    value:
    if isType "merge" value then
      concatMap pushDown value.contents
    else if isType "if" value then
      map (mapAttrs (_: mkIf value.condition)) (pushDown value.content)
    else if isType "override" value then
      map (mapAttrs (_: mkOverride value.priority)) (pushDown value.content)
    else
      [ value ];

  # The values that hold, each with its priority. What an override holds is not looked at: it may never be needed.
  discharge =
    value:
    if isType "merge" value then
      concatMap discharge value.contents
    else if isType "if" value then
      optionals value.condition (discharge value.content)
    else if isType "override" value then
      [
        {
          inherit (value) priority;
          value = value.content;
        }
      ]
    else
      [
        {
          priority = 100;
          inherit value;
        }
      ];

  strongest =
    found:
    let
      least = foldl' (low: one: if one.priority < low then one.priority else low) 9999 found;
    in
    {
      priority = least;
      values = map (one: one.value) (filter (one: one.priority == least) found);
    };

  ## types

  shown = concatStringsSep ".";
  mkType =
    {
      description,
      check ? _: true,
      merge ? mergeEqual,
      getSubOptions ? _: { },
      # What there is where nothing is defined, in a list of one.
      empty ? [ ],
      # Whether it stands in brackets where it is a part of another.
      compound ? false,
    }:
    {
      inherit
        description
        check
        merge
        getSubOptions
        empty
        compound
        ;
    };
  part = type: if type.compound then "(${type.description})" else type.description;
  mergeEqual =
    loc: values:
    if all (value: value == head values) values then
      head values
    else
      throw "the option `${shown loc}' has conflicting definitions";
  # Of one value of an option, or of one element in it: nothing where nothing holds.
  mergeDefinitions =
    loc: type: definitions:
    let
      found = mergeHeld loc type definitions;
    in
    if found == [ ] then type.empty else found;
  mergeHeld =
    loc: type: definitions:
    let
      found = concatMap discharge definitions;
      best = strongest found;
      wrong = filter (value: !type.check value) best.values;
    in
    if found == [ ] then
      [ ]
    else if wrong != [ ] then
      throw "a definition for option `${shown loc}' is not of type `${type.description}'"
    else
      [ (type.merge loc best.values) ];

  simple = description: check: mkType { inherit description check; };
  anything = mkType {
    description = "anything";
    merge =
      loc: values:
      if all (value: isAttrs value && !(value ? outPath)) values then
        (types.attrsOf anything).merge loc values
      else
        mergeEqual loc values;
  };
  types = {
    inherit anything;
    raw = simple "raw value" (_: true);
    unspecified = simple "unspecified value" (_: true);
    str = simple "string" isString;
    bool = simple "boolean" builtins.isBool;
    int = simple "signed integer" builtins.isInt;
    port = simple "16 bit unsigned integer" (value: builtins.isInt value && value >= 0 && value < 65536);
    ints.unsigned = simple "unsigned integer, meaning >=0" (value: builtins.isInt value && value >= 0);
    package = simple "package" (value: isAttrs value && value ? outPath);
    path = simple "absolute path" (
      value: isPath value || (isString value && hasPrefix "/" value) || (isAttrs value && value ? outPath)
    );
    lines = mkType {
      description = "strings concatenated with \"\\n\"";
      check = isString;
      merge = _: concatStringsSep "\n";
    };
    strMatching = pattern: simple "string matching the pattern ${pattern}" (value: isString value && builtins.match pattern value != null);
    enum =
      values:
      let
        isOne = length values == 1;
        shown = concatMapStringsSep ", " builtins.toJSON values;
      in
      simple (if isOne then "value ${shown} (singular enum)" else "one of ${shown}") (value: elem value values)
      // {
        compound = !isOne;
      };
    either = left: right: simple "${part left} or ${part right}" (value: left.check value || right.check value) // { compound = true; };
    nullOr =
      type:
      mkType {
        description = "null or ${part type}";
        compound = true;
        empty = [ null ];
        check = value: value == null || type.check value;
        merge = loc: values: if all (value: value == null) values then null else type.merge loc values;
        inherit (type) getSubOptions;
      };
    listOf =
      type:
      mkType {
        description = "list of ${part type}";
        compound = true;
        empty = [ [ ] ];
        check = isList;
        merge =
          loc: values:
          concatLists (imap0 (index: value: mergeDefinitions (loc ++ [ "[${toString index}]" ]) type [ value ]) (concatLists values));
        getSubOptions = loc: type.getSubOptions (loc ++ [ "*" ]);
      };
    nonEmptyListOf =
      type:
      types.listOf type
      // {
        description = "non-empty list of ${part type}";
        empty = [ ];
        check = value: isList value && value != [ ];
      };
    attrsOf =
      type:
      mkType {
        description = "attribute set of ${part type}";
        compound = true;
        empty = [ { } ];
        check = isAttrs;
        merge =
          loc: values:
          let
            pushed = concatMap pushDown values;
            merged = mapAttrs (name: mergeHeld (loc ++ [ name ]) type) (
              builtins.zipAttrsWith (_: definitions: definitions) pushed
            );
          in
          mapAttrs (_: head) (filterAttrs (_: found: found != [ ]) merged);
        getSubOptions = loc: type.getSubOptions (loc ++ [ "<name>" ]);
      };
    submodule =
      module:
      mkType {
        description = "submodule";
        compound = true;
        check = value: isAttrs value || isFunction value || isPath value;
        merge =
          loc: values:
          (evalModules {
            modules = [ module ] ++ map (value: if isAttrs value then { config = value; } else value) values;
            specialArgs.name = last loc;
            prefix = loc;
          }).config;
        getSubOptions =
          loc:
          (evalModules {
            modules = [ module ];
            specialArgs.name = last loc;
            prefix = loc;
          }).options;
      };
  };

  ## modules

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      args = {
        inherit config options lib;
      }
      // specialArgs;
      called = module: if isFunction module then module (mapAttrs (name: _: args.${name}) (functionArgs module) // args) else module;
      plain =
        module:
        if module ? config || module ? options then
          module
        else
          {
            imports = module.imports or [ ];
            config = removeAttrs module [ "imports" ];
          };
      node = parent: index: module: {
        key = if isPath module then toString module else "${parent}:${toString index}";
        module = plain (called (if isPath module then import module else module));
      };
      loaded = map (found: found.module) (genericClosure {
        startSet = imap0 (node "") modules;
        operator = found: imap0 (node found.key) (found.module.imports or [ ]);
      });
      tree = declared prefix (map (module: module.options or { }) loaded);
      evaluated = evalTree prefix tree (concatMap (module: pushDown (module.config or { })) loaded);
      config = values evaluated;
      options = evaluated;
    in
    {
      inherit config options;
    };

  declared =
    loc: trees:
    builtins.zipAttrsWith (
      name: found:
      if length found == 1 then
        head found
      else if filter (isType "option") found != [ ] then
        throw "the option `${shown (loc ++ [ name ])}' is declared twice"
      else
        declared (loc ++ [ name ]) found
    ) trees;

  # The tree of options with what they are.
  evalTree =
    loc: tree: configs:
    let
      defined = builtins.zipAttrsWith (_: values: values) configs;
      unknown = filter (name: !tree ? ${name}) (attrNames defined);
      one =
        name: option:
        let
          here = loc ++ [ name ];
          definitions = defined.${name} or [ ];
        in
        if isType "option" option then
          evalOption here option definitions
        else
          evalTree here option (concatMap pushDown definitions);
    in
    if unknown != [ ] then
      throw "the option `${shown (loc ++ [ (head unknown) ])}' does not exist"
    else
      mapAttrs one tree;

  evalOption =
    loc: option: definitions:
    let
      type = option.type or types.unspecified;
      own = concatMap discharge definitions;
      found = own ++ optionals (option ? default) (discharge (mkOverride 1500 option.default));
      merged = mergeDefinitions loc type (
        definitions ++ optional (option ? default) (mkOverride 1500 option.default)
      );
      value =
        if option.readOnly or false && length found > 1 then
          throw "the option `${shown loc}' is read-only, but it's set multiple times"
        else if merged == [ ] then
          throw "the option `${shown loc}' was accessed but has no value defined"
        else
          (option.apply or (same: same)) (head merged);
    in
    option
    // {
      inherit loc type value;
      isDefined = merged != [ ];
      highestPrio = (strongest found).priority;
    };

  values = mapAttrs (_: option: if isType "option" option then option.value else values option);

  lib = {
    inherit
      concatMap
      concatMapStringsSep
      count
      evalModules
      filter
      filterAttrs
      genAttrs
      hasInfix
      hasPrefix
      hasSuffix
      imap0
      isType
      last
      mapAttrs'
      mapAttrsToList
      mkIf
      mkMerge
      mkOption
      mkOverride
      nameValuePair
      optional
      optionalAttrs
      optionals
      recursiveUpdate
      removePrefix
      removeSuffix
      splitString
      stringToCharacters
      take
      types
      unique
      ;
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;
    mkOptionDefault = mkOverride 1500;
  };
in
lib
