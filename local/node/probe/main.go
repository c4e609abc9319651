// Command probe is the one program of the image by which the cluster's tests
// look around from inside a pod: the image has no shell.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const timeout = 5 * time.Second

func main() {
	if len(os.Args) < 2 {
		log.Fatal("name a verb")
	}
	args := os.Args[2:]
	verbs := map[string]func([]string) error{
		"cat":    cat,
		"echo":   echo,
		"get":    get,
		"lookup": lookup,
		"serve":  serve,
		"sum":    sum,
		"who":    who,
		"write":  write,
	}
	verb, ok := verbs[os.Args[1]]
	if !ok {
		log.Fatalf("no such verb: %s", os.Args[1])
	}
	if err := verb(args); err != nil {
		log.Fatal(err)
	}
}

func cat(paths []string) error {
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if _, err := os.Stdout.Write(body); err != nil {
			return err
		}
	}
	return nil
}

func echo(words []string) error {
	fmt.Println(strings.Join(words, " "))
	return nil
}

func get(addresses []string) error {
	client := http.Client{Timeout: timeout}
	for _, address := range addresses {
		answer, err := client.Get(address)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			return err
		}
		fmt.Printf("%d %s\n", answer.StatusCode, strings.TrimSpace(string(body)))
	}
	return nil
}

func lookup(names []string) error {
	for _, name := range names {
		found, err := net.LookupHost(name)
		if err != nil {
			return err
		}
		fmt.Println(strings.Join(found, " "))
	}
	return nil
}

// serve answers with the words given, says so in its log, and offers a metric.
func serve(words []string) error {
	http.HandleFunc("/metrics", func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(answer, "trimtab_probe_up 1")
	})
	http.HandleFunc("/", func(answer http.ResponseWriter, request *http.Request) {
		fmt.Println("asked for", request.URL.Path)
		fmt.Fprintln(answer, strings.Join(words, " "))
	})
	fmt.Println("serving on 8080")
	return http.ListenAndServe(":8080", nil)
}

func sum(paths []string) error {
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Printf("%x\n", sha256.Sum256(body))
	}
	return nil
}

func who([]string) error {
	fmt.Printf("uid=%d gid=%d\n", os.Getuid(), os.Getgid())
	return nil
}

func write(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("write PATH TEXT")
	}
	return os.WriteFile(args[0], []byte(args[1]+"\n"), 0o644)
}
