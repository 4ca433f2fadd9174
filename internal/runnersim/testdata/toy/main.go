// Toy is a container action that shows what a runner does to one. Its two halves are
// told apart by the entrypoint's name, as Stepkey's are.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	half := filepath.Base(os.Args[0])
	fmt.Printf("half=%s args=%s\n", half, strings.Join(os.Args[1:], " "))
	for _, name := range []string{"INPUT_NOTE", "FROM_ACTION", "CI", "HOME", "GITHUB_WORKSPACE", "RUNNER_TEMP", "GITHUB_ACTION_REPOSITORY"} {
		fmt.Printf("%s=%s\n", name, os.Getenv(name))
	}
	if half == "post" {
		post()
		return
	}
	acquire()
}

func acquire() {
	hidden := os.Getenv("INPUT_TO-HIDE")
	if task := os.Getenv("INPUT_TASK"); task != "" {
		hidden = "token-for-" + task
	}
	fmt.Println("::add-mask::" + strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(hidden))
	appendTo("GITHUB_OUTPUT", "token<<END\n"+hidden+"\nEND\n")
	appendTo("GITHUB_ENV", "EXPORTED<<END\n"+hidden+"\nEND\n")
	appendTo("GITHUB_STATE", "lease=lease-1\n")
	appendTo("GITHUB_STEP_SUMMARY", "The secret is "+hidden+".\n")
	appendTo("GITHUB_PATH", "/toy/bin\n")
	write(filepath.Join(os.Getenv("RUNNER_TEMP"), "from-main"), "main was here")
	fmt.Println("::warning title=Careful%2C now::two%0Alines")
	behave(os.Getenv("INPUT_BEHAVIOUR"))
}

func behave(how string) {
	switch how {
	case "end":
	case "fail":
		os.Exit(3)
	case "leak":
		fmt.Println("the secret is " + os.Getenv("INPUT_TO-HIDE"))
	case "dial":
		dial(os.Getenv("INPUT_NOTE"))
	case "hang", "stubborn":
		signals := make(chan os.Signal, 2)
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
		fmt.Println("hanging")
		for s := range signals {
			fmt.Println("got", s)
			if how == "hang" {
				return
			}
		}
	default:
		fmt.Println("::error::no such behaviour")
		os.Exit(2)
	}
}

// dial prints what a server says first.
func dial(address string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		fmt.Println("::error::" + err.Error())
		os.Exit(5)
	}
	defer c.Close()
	if _, err := io.Copy(os.Stdout, c); err != nil {
		os.Exit(5)
	}
}

func post() {
	fmt.Printf("lease=%q\n", os.Getenv("STATE_lease"))
	write(filepath.Join(os.Getenv("RUNNER_TEMP"), "from-post"), os.Getenv("STATE_lease"))
}

func appendTo(variable, text string) {
	f, err := os.OpenFile(os.Getenv(variable), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		fmt.Println("::error::" + err.Error())
		os.Exit(4)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		os.Exit(4)
	}
}

func write(path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		fmt.Println("::error::" + err.Error())
		os.Exit(4)
	}
}
