// Command sopsd is sops itself, as a library: it encrypts, decrypts and reads thousands of documents in one process, for
// tests.
//
// It takes one JSON request a line and answers each with one line. Bytes are base64.
//
//	{"op": "encrypt", "format", "text", "rule", "value", "mac_only_encrypted"}  →  {"file", "key"}
//	{"op": "decrypt", "format", "file", "key"}                                  →  {"tree", "whole", "leaves"}
//	{"op": "parse", "format", "text"}                                           →  {"tree"}
//
// "key" is the data key, in hexadecimal: with it nobody is asked to unwrap one. A refusal is {"error"}.
package main

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/cmd/sops/common"
	"github.com/getsops/sops/v3/cmd/sops/formats"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/logging"
	"github.com/getsops/sops/v3/version"
	"github.com/sirupsen/logrus"
)

// Somebody must be able to read a file; nobody has the identity.
const recipient = "age1lzd99uklcjnc0e7d860axevet2cz99ce9pq6tzuzd05l5nr28ams36nvun"

type request struct {
	Op               string `json:"op"`
	Format           string `json:"format"`
	Text             []byte `json:"text"`
	File             []byte `json:"file"`
	Key              string `json:"key"`
	Rule             string `json:"rule"`
	Value            string `json:"value"`
	MacOnlyEncrypted bool   `json:"mac_only_encrypted"`
}

type leaf struct {
	Path  []any  `json:"path"`
	Bytes []byte `json:"bytes"`
	Error string `json:"error,omitempty"`
}

type answer struct {
	File   []byte `json:"file,omitempty"`
	Key    string `json:"key,omitempty"`
	Tree   any    `json:"tree,omitempty"`
	Whole  []byte `json:"whole,omitempty"`
	Leaves []leaf `json:"leaves,omitempty"`
	Error  string `json:"error,omitempty"`
}

func main() {
	logging.SetLevel(logrus.PanicLevel)
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var asked request
		if err := json.Unmarshal(line, &asked); err != nil {
			panic(err)
		}
		if err := out.Encode(respond(asked)); err != nil {
			panic(err)
		}
	}
}

// respond answers a request. sops panics on some broken documents: there its command ends with a trace and status 2.
func respond(asked request) (said answer) {
	defer func() {
		if cause := recover(); cause != nil {
			said = answer{Error: fmt.Sprint("panic: ", cause)}
		}
	}()
	store := common.StoreForFormat(formats.FormatFromString(asked.Format), config.NewStoresConfig())
	var err error
	switch asked.Op {
	case "encrypt":
		said, err = encrypt(store, asked)
	case "decrypt":
		said, err = decrypt(store, asked)
	case "parse":
		var branches sops.TreeBranches
		branches, err = store.LoadPlainFile(asked.Text)
		said = answer{Tree: documents(branches)}
	default:
		panic("unknown op " + asked.Op)
	}
	if err != nil {
		return answer{Error: err.Error()}
	}
	return said
}

func encrypt(store common.Store, asked request) (answer, error) {
	branches, err := store.LoadPlainFile(asked.Text)
	if err != nil {
		return answer{}, err
	}
	if len(branches) < 1 || store.HasSopsTopLevelKey(branches[0]) {
		return answer{}, fmt.Errorf("empty, or encrypted already")
	}
	owner, err := age.MasterKeyFromRecipient(recipient)
	if err != nil {
		return answer{}, err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return answer{}, err
	}
	if err := owner.Encrypt(key); err != nil {
		return answer{}, err
	}
	tree := sops.Tree{Branches: branches, Metadata: metadata(asked, owner)}
	err = common.EncryptTree(common.EncryptTreeOpts{DataKey: key, Tree: &tree, Cipher: aes.NewCipher()})
	if err != nil {
		return answer{}, err
	}
	file, err := store.EmitEncryptedFile(tree)
	return answer{File: file, Key: hex.EncodeToString(key)}, err
}

func metadata(asked request, owner *age.MasterKey) sops.Metadata {
	about := sops.Metadata{
		KeyGroups:        []sops.KeyGroup{{owner}},
		MACOnlyEncrypted: asked.MacOnlyEncrypted,
		Version:          version.Version,
	}
	switch asked.Rule {
	case "":
		if asked.Format != "binary" {
			about.UnencryptedSuffix = sops.DefaultUnencryptedSuffix
		}
	case "unencrypted_suffix":
		about.UnencryptedSuffix = asked.Value
	case "encrypted_suffix":
		about.EncryptedSuffix = asked.Value
	case "unencrypted_regex":
		about.UnencryptedRegex = asked.Value
	case "encrypted_regex":
		about.EncryptedRegex = asked.Value
	case "unencrypted_comment_regex":
		about.UnencryptedCommentRegex = asked.Value
	case "encrypted_comment_regex":
		about.EncryptedCommentRegex = asked.Value
	default:
		panic("unknown rule " + asked.Rule)
	}
	return about
}

func decrypt(store common.Store, asked request) (answer, error) {
	tree, err := store.LoadEncryptedFile(asked.File)
	if err != nil {
		return answer{}, err
	}
	tree.Metadata.DataKey, err = hex.DecodeString(asked.Key)
	if err != nil {
		panic(err)
	}
	if _, err := common.DecryptTree(common.DecryptTreeOpts{Tree: &tree, Cipher: aes.NewCipher()}); err != nil {
		return answer{}, err
	}
	said := answer{Tree: documents(tree.Branches)}
	leaves(tree.Branches[0], nil, func(path []any) {
		said.Leaves = append(said.Leaves, extract(store, tree.Branches[0], path))
	})
	// What cannot be printed can still have values.
	if whole, err := store.EmitPlainFile(tree.Branches); err == nil {
		said.Whole = whole
	}
	return said, nil
}

// extract does what `sops decrypt --extract` does.
func extract(store common.Store, branch sops.TreeBranch, path []any) leaf {
	value, err := branch.Truncate(path)
	if err != nil {
		return leaf{Path: path, Error: err.Error()}
	}
	if text, ok := value.(string); ok {
		return leaf{Path: path, Bytes: []byte(text)}
	}
	bytes, err := store.EmitValue(value)
	if err != nil {
		return leaf{Path: path, Error: err.Error()}
	}
	return leaf{Path: path, Bytes: bytes}
}

// leaves visits the values without parts, but for comments and null.
func leaves(value any, path []any, visit func(path []any)) {
	below := func(step any) []any {
		return append(append([]any{}, path...), step)
	}
	switch value := value.(type) {
	case sops.TreeBranch:
		for _, item := range value {
			if name, ok := item.Key.(string); ok {
				leaves(item.Value, below(name), visit)
			}
		}
	case []any:
		for index, item := range value {
			leaves(item, below(index), visit)
		}
	case sops.Comment, nil:
	default:
		visit(path)
	}
}

// documents returns documents as data that can be compared: names in order, each value with its type, no comments.
func documents(branches sops.TreeBranches) []any {
	all := []any{}
	for _, branch := range branches {
		all = append(all, data(branch))
	}
	return all
}

func data(value any) any {
	switch value := value.(type) {
	case sops.TreeBranch:
		fields := []any{}
		for _, item := range value {
			if _, ok := item.Key.(sops.Comment); !ok {
				fields = append(fields, []any{fmt.Sprint(item.Key), data(item.Value)})
			}
		}
		return map[string]any{"map": fields}
	case []any:
		items := []any{}
		for _, item := range value {
			if _, ok := item.(sops.Comment); !ok {
				items = append(items, data(item))
			}
		}
		return map[string]any{"list": items}
	case string:
		return map[string]any{"string": base64.StdEncoding.EncodeToString([]byte(value))}
	case float64:
		return map[string]any{"float": strconv.FormatFloat(value, 'g', -1, 64)}
	case time.Time:
		return map[string]any{"time": value.Format(time.RFC3339Nano)}
	case nil:
		return nil
	default:
		return map[string]any{fmt.Sprintf("%T", value): fmt.Sprint(value)}
	}
}
