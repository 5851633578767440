// Reads logs that this crate wrote with Go's sumdb packages, and writes one for comparison. See README.md.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

func main() {
	switch {
	case len(os.Args) == 4 && os.Args[1] == "verify":
		for _, size := range []string{"1", "2", "255", "256", "257", "300", "1000"} {
			verify(filepath.Join(os.Args[2], size), os.Args[3])
		}
	case len(os.Args) == 5 && os.Args[1] == "append":
		appendEntries(os.Args[2], number(os.Args[3]), number(os.Args[4]))
	case len(os.Args) == 2 && os.Args[1] == "note":
		writeNote()
	default:
		fmt.Fprintln(os.Stderr, "usage: verify FOLDER VKEY | append FOLDER COUNT BATCH | note")
		os.Exit(2)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	check(err)
	return n
}

// The path of a tile: sumdb has the height in it, and calls entries data.
func tilePath(tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), "tile/8/")
	return "tile/" + strings.Replace(path, "data/", "entries/", 1)
}

type tiles struct{ folder string }

func (t tiles) Height() int                             { return height }
func (t tiles) SaveTiles(of []tlog.Tile, data [][]byte) {}
func (t tiles) ReadTiles(of []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range of {
		data, err := os.ReadFile(filepath.Join(t.folder, tilePath(tile)))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func open(file, vkey string) *note.Note {
	verifier, err := note.NewVerifier(vkey)
	check(err)
	data, err := os.ReadFile(file)
	check(err)
	opened, err := note.Open(data, note.VerifierList(verifier))
	check(err)
	return opened
}

func tree(text string) (tlog.Tree, string) {
	lines := strings.Split(text, "\n")
	hash, err := tlog.ParseHash(lines[2])
	check(err)
	return tlog.Tree{N: number(lines[1]), Hash: hash}, lines[0]
}

// Everything of one log: signatures, every entry in the tree, every older tree in it, the proof file, the keys.
func verify(folder, vkey string) {
	log := filepath.Join(folder, "log")
	head, origin := tree(open(filepath.Join(log, "checkpoint"), vkey).Text)
	reader := tlog.TileHashReader(head, tiles{log})
	root, err := tlog.TreeHash(head.N, reader)
	check(err)
	if root != head.Hash {
		panic("another root")
	}
	index := int64(0)
	for _, entry := range entries(log, head.N) {
		proof, err := tlog.ProveRecord(head.N, index, reader)
		check(err)
		check(tlog.CheckRecord(proof, head.N, head.Hash, index, tlog.RecordHash(entry)))
		index++
	}
	for old := int64(1); old <= head.N; old++ {
		hash, err := tlog.TreeHash(old, reader)
		check(err)
		proof, err := tlog.ProveTree(head.N, old, reader)
		check(err)
		check(tlog.CheckTree(proof, head.N, head.Hash, old, hash))
	}
	checkProofFile(folder, vkey, head.N)
	open(filepath.Join(folder, "a.note"), vkey)
	skey, err := os.ReadFile(filepath.Join(folder, "signing-key"))
	check(err)
	signer, err := note.NewSigner(string(skey))
	check(err)
	fmt.Printf("%s at size %d: root %v, %d entries, %d older trees, proof file, note and keys (%s) accepted\n",
		origin, head.N, root, index, head.N, signer.Name())
}

func entries(log string, size int64) [][]byte {
	var all [][]byte
	for n := int64(0); n*256 < size; n++ {
		width := size - n*256
		if width > 256 {
			width = 256
		}
		data, err := os.ReadFile(filepath.Join(log, tilePath(tlog.Tile{H: height, L: -1, N: n, W: int(width)})))
		check(err)
		for len(data) > 0 {
			end := 2 + int(binary.BigEndian.Uint16(data))
			all = append(all, data[2:end])
			data = data[end:]
		}
	}
	if int64(len(all)) != size {
		panic("another number of entries")
	}
	return all
}

func checkProofFile(folder, vkey string, size int64) {
	data, err := os.ReadFile(filepath.Join(folder, "last.tlog-proof"))
	check(err)
	parts := bytes.SplitN(data, []byte("\n\n"), 2)
	lines := strings.Split(string(parts[0]), "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" || lines[1] != fmt.Sprintf("index %d", size-1) {
		panic("another proof")
	}
	var proof tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := tlog.ParseHash(line)
		check(err)
		proof = append(proof, hash)
	}
	verifier, err := note.NewVerifier(vkey)
	check(err)
	opened, err := note.Open(parts[1], note.VerifierList(verifier))
	check(err)
	head, _ := tree(opened.Text)
	leaf := tlog.RecordHash([]byte(fmt.Sprintf("entry %d", size-1)))
	check(tlog.CheckRecord(proof, head.N, head.Hash, size-1, leaf))
}

// Counts up: for keys that are the same each time.
type counter struct{ next byte }

func (c *counter) Read(out []byte) (int, error) {
	for at := range out {
		c.next++
		out[at] = c.next
	}
	return len(out), nil
}

// A key and a note that Go makes, for the tests of this crate.
func writeNote() {
	skey, vkey, err := note.GenerateKey(&counter{}, "peers.example/go")
	check(err)
	signer, err := note.NewSigner(skey)
	check(err)
	signed, err := note.Sign(&note.Note{Text: "written by Go\n\nè subito sera\n"}, signer)
	check(err)
	fmt.Printf("%s\n%s\n%s", skey, vkey, signed)
}

// Hashes in memory, as sumdb numbers them.
type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, at := range indexes {
		out = append(out, h[at])
	}
	return out, nil
}

// Appends entries as the example `append` does: temporary file, sync, rename, folders synced, checkpoint last.
func appendEntries(folder string, count, batch int64) {
	skey, _, err := note.GenerateKey(&counter{}, "bench.example/log")
	check(err)
	signer, err := note.NewSigner(skey)
	check(err)
	var stored hashes
	var bundle []byte
	started := time.Now()
	for start := int64(0); start < count; start += batch {
		end := start + batch
		if end > count {
			end = count
		}
		writer := &writer{folder: folder, changed: map[string]bool{}}
		for n := start; n < end; n++ {
			entry := bytes.Repeat([]byte("."), 1000)
			copy(entry, fmt.Sprintf("%020d", n))
			more, err := tlog.StoredHashes(n, entry, stored)
			check(err)
			stored = append(stored, more...)
			bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(entry))), entry...)
			if n%256 == 255 {
				writer.put(tilePath(tlog.Tile{H: height, L: -1, N: n / 256, W: 256}), bundle)
				bundle = nil
			}
		}
		if end%256 != 0 {
			writer.put(tilePath(tlog.Tile{H: height, L: -1, N: end / 256, W: int(end % 256)}), bundle)
		}
		for _, tile := range tlog.NewTiles(height, start, end) {
			data, err := tlog.ReadTileData(tile, stored)
			check(err)
			writer.put(tilePath(tile), data)
		}
		writer.finish()
		root, err := tlog.TreeHash(end, stored)
		check(err)
		text := fmt.Sprintf("bench.example/log\n%d\n%s\n", end, base64.StdEncoding.EncodeToString(root[:]))
		signed, err := note.Sign(&note.Note{Text: text}, signer)
		check(err)
		writer.put("checkpoint", signed)
		writer.finish()
	}
	seconds := time.Since(started).Seconds()
	fmt.Printf("%d entries of 1000 bytes in batches of %d: %.2f s\n%.0f entries/s\n", count, batch, seconds, float64(count)/seconds)
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if strings.HasPrefix(line, "VmHWM:") {
			fmt.Println(line)
		}
	}
}

type writer struct {
	folder  string
	changed map[string]bool
}

func (w *writer) put(name string, data []byte) {
	path := filepath.Join(w.folder, name)
	check(os.MkdirAll(filepath.Dir(path), 0o755))
	for above := filepath.Dir(path); len(above) >= len(w.folder); above = filepath.Dir(above) {
		w.changed[above] = true
	}
	temporary := filepath.Join(w.folder, ".tmp")
	file, err := os.Create(temporary)
	check(err)
	_, err = file.Write(data)
	check(err)
	check(file.Sync())
	check(file.Close())
	check(os.Rename(temporary, path))
}

func (w *writer) finish() {
	for folder := range w.changed {
		opened, err := os.Open(folder)
		check(err)
		check(opened.Sync())
		check(opened.Close())
	}
	w.changed = map[string]bool{}
}
