/*
 * Lets h2load take a header from a file: -H @FILE reads the file's first line.
 *
 * h2load takes headers from its command line only, which every process of the machine can read, and one of ours
 * is a credential. Preloaded into h2load, this stands before getopt_long and puts the line where h2load looks for
 * the option's value. Nothing else of h2load changes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int parser(int, char *const[], const char *, const struct option *, int *);

int getopt_long(int argc, char *const argv[], const char *letters, const struct option *words, int *index)
{
    static char line[16384];
    parser *next = (parser *)dlsym(RTLD_NEXT, "getopt_long");
    int option = next(argc, argv, letters, words, index);

    if (option == 'H' && optarg != NULL && optarg[0] == '@') {
        FILE *file = fopen(optarg + 1, "r");

        if (file == NULL || fgets(line, sizeof line, file) == NULL) {
            perror("the file of a header");
            exit(EXIT_FAILURE);
        }
        fclose(file);
        line[strcspn(line, "\n")] = '\0';
        optarg = line;
    }
    return option;
}
