import sys, pathlib, numpy as np, pandas as pd, os
sys.path.insert(0,'/work/main/tests')
from notebook_cells import load_functions
m=load_functions(pathlib.Path('/work/scratch/nb3/training_bb20c72.ipynb'))
import keras
table,images,faults=m.load_folder(pathlib.Path('data'))
val=table[table.split=='val'].reset_index(drop=True)
part=np.asarray(m.validation_part(val.img_name))
print({p:(part==p).sum() for p in np.unique(part)})
for f in sys.argv[1:]:
    model=keras.models.load_model(f,compile=False)
    for flip in (False,True):
        p=m.predict_table(model,val,pathlib.Path('data/images'),flip_averaging=flip)
        for sel in (part=='select', part!='select', part!=''):
            q=p[sel]
            g=((q.gender_probability>.5)==(q.gender==1)).mean() if q.gender.dtype!=object else None
            e=m.evaluate(q)
            print(flip, sel.sum(), {k:(round(v['value'],4) if isinstance(v,dict) else v) for k,v in e.items() if k in('age_mae','gender_accuracy','ethnicity_accuracy')}, flush=True)
