// The only program of an image without a shell: prints its arguments and its environment.
//
//	noshell [WORD…]           prints and ends with 0
//	noshell exit N [WORD…]    prints and ends with N
package main

import (
	"fmt"
	"os"
	"sort"
	"strconv"
)

func main() {
	for i, argument := range os.Args {
		fmt.Printf("argument %d: %s\n", i, argument)
	}
	environment := os.Environ()
	sort.Strings(environment)
	for _, variable := range environment {
		fmt.Println("environment: " + variable)
	}
	if len(os.Args) > 2 && os.Args[1] == "exit" {
		code, err := strconv.Atoi(os.Args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		os.Exit(code)
	}
}
