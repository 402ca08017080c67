import sys, pathlib, shutil
sys.path.insert(0,'/work/main/tests')
from notebook_cells import load_functions
commit,*names=sys.argv[1:]
copy=pathlib.Path(f'/work/scratch/nb3/training_{commit}.ipynb')
m=load_functions(copy)
table,images,faults=m.load_folder(pathlib.Path('data'))
val=table[table.split=='val']; part=m.validation_part(val.img_name)
ctx=dict(tables={'train':table[table.split=='train'],'select':val[part=='select']},folder=pathlib.Path('data/images'),data_name='utkface',model_dir=pathlib.Path('model'),log_dir=pathlib.Path('logs'),shipped=False,commit=commit)
for name in names:
    r=m.fit_or_load(name,m.ALL_RUNS[name],ctx); print(name,'done',r['history']['best_epoch'],r['history']['seconds'],flush=True)
